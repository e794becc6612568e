"""People with devices on a test cluster, everything they see recorded, and judged by the drill's checker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from support.api_calls import PASSWORD, Person, sign_up
from support.cluster import HEARTBEAT_S, Cluster, eventually
from support.rawsocket import RawSocket
from websockets.exceptions import ConnectionClosed

from chatclient.client import ChatClient
from chatclient.drill.checker import Verdict, check
from chatclient.drill.histories import DeviceHistory, DeviceRecorder, Intrusion, Latencies, Sent
from chatclient.http import Credentials
from chatkernel.ids import new_client_msg_id, new_user_id, now_ms
from chatkernel.protocol import Event, Seats
from chatkernel.settings import SecretFile
from chatkernel.storage.model import Device, EventRange, User
from chatkernel.tickets import TicketIssuer


class _PlacedClient(ChatClient):
    """Takes its first seat on a pod of the test's choice, and later ones wherever discovery says."""

    not_on: list[str] = []  # noqa: RUF012 - set once, never changed in place

    async def _take_seats(self, exclude: list[str]) -> Seats:
        elsewhere, self.not_on = self.not_on, []
        return await super()._take_seats([*exclude, *elsewhere])


class Phone:
    """A device that stays connected by itself, as an app's does."""

    def __init__(self, owner: Person, client: ChatClient, recorder: DeviceRecorder) -> None:
        self.owner, self.client, self.recorder = owner, client, recorder

    @property
    def moves(self) -> int:
        return self.client.moves

    def had(self, channel_id: str) -> list[int]:
        return [seen.seq for seen in self.recorder.history.seen.get(channel_id, [])]


class Crew:
    """Signs people up, opens sockets and phones, and closes them all."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self.cluster, self.http = cluster, http
        self.phones: list[Phone] = []
        self.sent: list[Sent] = []
        self._sockets: list[RawSocket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """In the background until the end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep_alive(self, *sockets: RawSocket) -> None:
        """They beat until they are closed."""
        for socket in sockets:
            self.spawn(_beat(socket))

    async def extras(self, number: int) -> list[str]:
        """User ids of so many people who never log in: put into the store without a password's work."""
        ids: list[str] = []
        async with self.cluster.store() as store:
            for _ in range(number):
                user_id = new_user_id()
                await store.create_user(User(user_id, user_id, "Extra", now_ms()), "")
                ids.append(user_id)
        return ids

    async def crowd(self, number: int, pod: str) -> list[RawSocket]:
        """So many connections to one pod, each of a person of its own, by tickets of our own making."""
        settings = self.cluster.settings_of_any_pod()
        secrets = msgspec.json.decode(Path(settings["secret_file"]).read_bytes(), type=SecretFile)
        issuer = TicketIssuer(secrets, 30, now_ms)
        incarnation = (await self.cluster.statz(pod))["incarnation"]
        url = f"ws://127.0.0.1:{(await self.cluster.pods())[pod]['port']}/v1/socket"
        users = await self.extras(number)
        async with self.cluster.store() as store:
            for user_id in users:
                await store.add_device(Device(f"d{user_id}", user_id, "crowd", now_ms(), now_ms()))
        sockets = []
        for user_id in users:
            socket = await self.raw(url)
            ticket, _ = issuer.issue(user_id, f"d{user_id}", pod, incarnation)
            assert (await socket.ask("hello", ticket=ticket))["type"] == "ack"
            self.keep_alive(socket)
            sockets.append(socket)
        return sockets

    async def people(self, *names: str) -> list[Person]:
        return list(await asyncio.gather(*(sign_up(self.http, name) for name in names)))

    async def group(self, owner: Person, *members: Person, **fields: Any) -> str:
        body = {"kind": "group", "name": "Team", "members": [m.id for m in members], **fields}
        state = await owner.ok("POST", "/v1/channels", body)
        return str(state["channel_id"])

    async def socket(self, person: Person, pod: str | None = None, **more: Any) -> RawSocket:
        opened = await RawSocket.log_in(person, pod, **more)
        self._sockets.append(opened)
        return opened

    async def raw(self, url: str, **more: Any) -> RawSocket:
        opened = await RawSocket.open(url, **more)
        self._sockets.append(opened)
        return opened

    async def phone(self, owner: Person, pod: str | None = None, **more: Any) -> Phone:
        """A device of its own, connected and in sync; at first on that pod, when it is named."""
        history = DeviceHistory(owner.id, "")
        recorder = DeviceRecorder(history, Latencies(time.monotonic), time.monotonic)
        client = _PlacedClient(
            self.cluster.url,
            credentials=Credentials(owner.username, PASSWORD),
            listener=recorder,
            http=self.http,
            **more,
        )
        client.not_on = [name for name in await self.cluster.ready() if pod not in (None, name)]
        phone = Phone(owner, client, recorder)
        self.phones.append(phone)
        await client.connect(timeout_s=20)
        assert client.api.tokens is not None
        history.device = client.api.tokens.device_id
        history.baselines = dict(client.cursors)
        return phone

    async def send(self, phone: Phone, channel_id: str, text: str = "hello") -> Sent:
        """A send through a phone, on the record."""
        record = Sent(channel_id, phone.owner.id, new_client_msg_id(), time.monotonic())
        self.sent.append(record)
        try:
            ack = await phone.client.send(channel_id, text, client_msg_id=record.client_msg_id)
        except Exception as error:
            record.error = str(error)
        else:
            record.acked_at = time.monotonic()
            record.seq, record.message_id = ack.seq or 0, ack.message_id or 0
        return record

    async def log_of(self, channel_id: str) -> list[Event]:
        """The whole log as the store holds it."""
        return await read_log(self.cluster, channel_id)

    async def settled(self, channel_id: str, within_s: float = 10.0) -> bool:
        """Whether every phone has everything of a channel that it is in, by the usual means alone."""
        head = (await read_log(self.cluster, channel_id))[-1].seq

        async def look() -> bool:
            return all(
                phone.client.cursors.get(channel_id, head) >= head and phone.client.in_sync
                for phone in self.phones
            )

        try:
            return await eventually(look, within_s)
        except AssertionError:
            return False

    async def judge(self, channel_ids: Sequence[str], intrusions: Sequence[Intrusion] = ()) -> Verdict:
        """What was sent, acked, seen and stored, compared."""
        for phone in self.phones:
            phone.recorder.history.cursors = dict(phone.client.cursors)
        logs = {channel_id: await read_log(self.cluster, channel_id) for channel_id in channel_ids}
        return check(self.sent, [phone.recorder.history for phone in self.phones], logs, intrusions)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in self._sockets), return_exceptions=True)
        await asyncio.gather(*(phone.client.close() for phone in self.phones), return_exceptions=True)


async def _beat(socket: RawSocket) -> None:
    with suppress(ConnectionClosed):
        while socket.closed_with is None:
            await socket.say("ping")
            await asyncio.sleep(HEARTBEAT_S / 2)


async def read_log(cluster: Cluster, channel_id: str) -> list[Event]:
    """A channel's log straight from the store: what is really there."""
    async with cluster.store() as store:
        [events] = await store.events([EventRange(channel_id, 0, 1_000_000)])
        return events


@asynccontextmanager
async def crew(cluster: Cluster, replicas: int = 2) -> AsyncIterator[Crew]:
    """Begins when the cluster is whole: what the test before broke has healed."""
    await cluster.whole(replicas)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=cluster.url, trust_env=False, timeout=20, limits=limits) as http:
        made = Crew(cluster, http)
        try:
            yield made
        finally:
            await made.close()
