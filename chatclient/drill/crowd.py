"""The people of a drill: their accounts (kept for the next one), their devices, and their channels."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

import httpx
import msgspec
from msgspec import Struct

from chatclient.client import ChatClient
from chatclient.drill.histories import DeviceHistory, DeviceRecorder, Latencies
from chatclient.drill.shape import ChannelShape, Shape
from chatclient.errors import Unreachable
from chatclient.files import read_json, write_private
from chatclient.http import Api, Credentials, Tokens
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Event, Page, Sync
from chatkernel.storage.model import ChannelState

AT_ONCE = 32
"""Requests under way while people sign up and connect: a password costs the server tens of milliseconds."""
SIGN_UPS = 3
"""Tries of one person: a busy server may answer too late."""

T = TypeVar("T")
R = TypeVar("R")


class SavedPerson(Struct):
    """An account of an earlier drill on the same cluster, with a device's tokens each."""

    username: str
    password: str
    devices: list[Tokens] = []


@dataclass(slots=True, eq=False)
class Device:
    """One device of one person, and what it saw."""

    user: int
    client: ChatClient
    recorder: DeviceRecorder
    history: DeviceHistory


@dataclass(slots=True, eq=False)
class Person:
    number: int
    username: str
    password: str
    user_id: str = ""
    devices: list[Device] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.devices[0].client.api


@dataclass(slots=True, eq=False)
class Room:
    """A channel of the drill, made."""

    channel_id: str
    shape: ChannelShape
    members: list[Person]
    removed: Person | None


async def gather_limited(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], at_once: int = AT_ONCE
) -> list[R]:
    """`work` on every item, a few at a time; the first failure ends it, and is raised."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def patiently(call: Callable[[], Awaitable[R]], tries: int = 8) -> R:
    """For what must not be done twice by itself: tried again when the server said that it was not done."""
    for n in range(tries):
        try:
            return await call()
        except ChatError as error:
            if not error.retryable or n == tries - 1:
                raise
            await asyncio.sleep(error.retry_after_s or 0.1 * 2**n)
    raise AssertionError("not reached")


class Crowd:
    """Everybody of one drill. `book` is where accounts are kept between drills (None: made anew each
    time)."""

    def __init__(
        self,
        url: str,
        shape: Shape,
        latencies: Latencies,
        *,
        http: httpx.AsyncClient,
        rng: Random,
        now: Callable[[], float],
        book: Path | None,
    ) -> None:
        self.url, self.shape, self.latencies = url, shape, latencies
        self.people: list[Person] = []
        self.rooms: list[Room] = []
        self._http, self._rng, self._now, self._book = http, rng, now, book
        self._saved: dict[str, list[SavedPerson]] = {}

    @property
    def devices(self) -> list[Device]:
        return [device for person in self.people for device in person.devices]

    # --- accounts ---

    async def enter(self, told: Callable[[int], None]) -> None:
        """Everybody has an account and a logged-in client for each device. `told` hears how many are
        ready."""
        if self._book is not None:
            self._saved = read_json(self._book, dict[str, list[SavedPerson]]) or {}
        saved = self._saved.get(self.url, [])
        prefix = f"drill-{secrets.token_hex(4)}"
        ready = 0

        async def one(number: int) -> Person:
            nonlocal ready
            old = saved[number] if number < len(saved) else None
            person = await self._person(number, prefix, old)
            ready += 1
            told(ready)
            return person

        self.people = await gather_limited(one, range(len(self.shape.devices)))
        self.save()

    async def _person(self, number: int, prefix: str, old: SavedPerson | None) -> Person:
        if old is not None:
            person = Person(number, old.username, old.password, tokens=list(old.devices))
            try:
                await self._log_in(person)
            except ChatError:
                await self._leave(person)  # the cluster was emptied since: begin anew
            else:
                return person
        person = Person(number, f"{prefix}-{number}", secrets.token_urlsafe(12))
        await self._log_in(person, new=True)
        return person

    async def _log_in(self, person: Person, *, new: bool = False) -> None:
        wanted = self.shape.devices[person.number]
        tokens: list[Tokens | None] = [*person.tokens[:wanted], *[None] * (wanted - len(person.tokens))]
        for index, kept in enumerate(tokens):
            device = self._device(person, kept, index)
            api = device.client.api
            if kept is None and index == 0 and new:
                await self._sign_up(api, person)
            await patiently(api.access_token)
            assert api.tokens is not None  # noqa: S101 - access_token gave them
            device.history.user_id = person.user_id = api.tokens.user_id
            device.history.device = api.tokens.device_id
            person.devices.append(device)

    async def _sign_up(self, api: Api, person: Person) -> None:
        for _ in range(SIGN_UPS):
            try:
                await patiently(lambda: api.sign_up(person.username, person.password))
            except Unreachable:
                continue  # it may have been done, or be done yet: then the name is taken, and by nobody else
            except ChatError as error:
                if error.code is not Code.USERNAME_TAKEN:
                    raise
                break
            else:
                return
        await patiently(lambda: api.log_in(person.username, person.password))

    def _device(self, person: Person, tokens: Tokens | None, index: int) -> Device:
        history = DeviceHistory("", f"device-{index}")
        recorder = DeviceRecorder(history, self.latencies, self._now)
        client = ChatClient(
            self.url,
            credentials=Credentials(person.username, person.password),
            tokens=tokens,
            listener=recorder,
            http=self._http,
            rng=Random(self._rng.random()),
            agent="drill",
        )

        def told_and_gave_up() -> tuple[bool, bool]:
            link = client.link
            return (False, True) if link is None else (link.migrating, link.gave_up)

        recorder.told_and_gave_up = told_and_gave_up
        return Device(person.number, client, recorder, history)

    async def _leave(self, person: Person) -> None:
        for device in person.devices:
            await device.client.close()
        person.devices.clear()

    def save(self) -> None:
        """Keeps the accounts and their newest tokens for the next drill."""
        if self._book is None:
            return
        people = [
            SavedPerson(
                p.username, p.password, [d.client.api.tokens for d in p.devices if d.client.api.tokens]
            )
            for p in self.people
        ]
        # A smaller drill than the last one keeps those that it did not need.
        people += self._saved.get(self.url, [])[len(people) :]
        self._saved[self.url] = people
        write_private(self._book, msgspec.json.encode(self._saved))

    # --- channels and connections ---

    async def make_rooms(self) -> None:
        self.rooms = await gather_limited(self._room, self.shape.channels)

    async def _room(self, shape: ChannelShape) -> Room:
        people = [self.people[number] for number in shape.members]
        removed = None if shape.removed is None else self.people[shape.removed]
        body: dict[str, object] = {"kind": "direct", "user_id": people[1].user_id}
        if not shape.direct:
            others = [person.user_id for person in people[1:] + ([removed] if removed else [])]
            body = {"kind": "group", "name": shape.name, "members": others, "client_id": secrets.token_hex(8)}
        api = people[0].api
        state = await api.call("POST", "/v1/channels", body, kind=ChannelState, retry=True)
        return Room(state.channel_id, shape, people, removed)

    async def connect(self, told: Callable[[int], None]) -> None:
        """Every device is connected and in sync, and knows its channels of this drill."""
        connected = 0

        async def one(device: Device) -> None:
            nonlocal connected
            await device.client.connect(timeout_s=60)
            connected += 1
            told(connected)

        await gather_limited(one, self.devices)
        mine = {room.channel_id for room in self.rooms}
        for device in self.devices:
            cursors = device.client.cursors
            device.history.baselines = {name: seq for name, seq in cursors.items() if name in mine}

    async def close(self) -> None:
        self.save()
        await asyncio.gather(*(device.client.close() for device in self.devices), return_exceptions=True)


async def read_log(api: Api, channel_id: str) -> list[Event]:
    """A channel's whole log as the store holds it, read by one of its members. Raises ChatError,
    Unreachable."""
    log: list[Event] = []
    while True:
        after = log[-1].seq if log else 0
        frames = await api.frames(Sync(f"log-{after}", {channel_id: after}))
        pages = [frame for frame in frames if isinstance(frame, Page)]
        events = [event for page in pages for event in page.events if event.channel_id == channel_id]
        log.extend(events)
        if not events or any(channel_id in page.heads for page in pages):
            return log
