"""The WebSocket endpoint, raw ASGI: moves bytes between a socket, its session and the pod's parts."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from chatkernel.drafts import Placed
from chatkernel.errors import ChatError, Close, Code
from chatkernel.ids import now_ms
from chatkernel.messaging import Actor, ack_of
from chatkernel.origins import AllowedOrigins
from chatkernel.problems import PROBLEM_TYPE, encode_problem, error_frame
from chatkernel.protocol import (
    SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK,
    Ack,
    ClientFrame,
    Delivered,
    Hello,
    History,
    Page,
    Ping,
    Pong,
    PresenceWatch,
    Read,
    Send,
    ServerFrame,
    Sync,
    Typing,
    Welcome,
    encode_json,
    encode_msgpack,
)
from chatpod.client import Client
from chatpod.connection import Connection, binary_frame, text_frame
from chatpod.pod import Pod
from chatpod.session import Refuse, Reject, Session, State
from chatpod.websocket import EXTENSION, PodWebSocketProtocol

ROOMS_PER_FRAME = 100
"""A `ping` costs as much as one frame more for each so many channels: its sum is over all of them."""

TURN_WITHIN_S = 8.0
"""How long a read waits for those that its connection has asked for before."""

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Any]
SendMessage = Callable[[dict[str, Any]], Any]


class SocketEndpoint:
    """ASGI application for `websocket` scopes."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._origins = AllowedOrigins(pod.settings.auth.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        if not self._allows_origin_of(scope):
            await _refuse(send, ChatError(Code.ORIGIN_NOT_ALLOWED))
            return
        await receive()  # websocket.connect
        offered = scope["subprotocols"]
        chosen = next((p for p in offered if p in (SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK)), None)
        await send({"type": "websocket.accept", "subprotocol": chosen})
        protocol: PodWebSocketProtocol = scope["extensions"][EXTENSION]["protocol"]
        await Socket(self._pod, protocol, chosen == SUBPROTOCOL_MSGPACK).run(receive, protocol)

    def _allows_origin_of(self, scope: Scope) -> bool:
        return self._origins.allows(
            next((value for name, value in scope["headers"] if name == b"origin"), None)
        )


async def _refuse(send: SendMessage, error: ChatError) -> None:
    """Instead of accepting the socket: the same document that the API would answer."""
    headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"cache-control", b"no-store")]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode_problem(error)})


class Socket:
    """One socket from accept to its end."""

    __slots__ = ("_client", "_connection", "_pod", "_reading", "_session", "_tasks")

    def __init__(self, pod: Pod, protocol: PodWebSocketProtocol, binary: bool) -> None:
        self._pod = pod
        loop = asyncio.get_running_loop()
        self._session = Session(pod.live, binary, loop.time)
        self._connection = Connection(protocol, pod.flusher, binary, pod.slow)
        self._client: Client | None = None
        self._tasks: set[asyncio.Task[None]] | None = None
        self._reading: tuple[int, asyncio.Semaphore] | None = None
        """The limit and its turns, made when first needed."""

    async def run(self, receive: Receive, protocol: PodWebSocketProtocol) -> None:
        timer = asyncio.get_running_loop().call_later(
            self._pod.settings.hello_timeout_s, self._hello_timed_out
        )
        protocol.attach(self)
        try:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    self._tell("client gone", code=message.get("code"))
                    return
                self.take(message["bytes"], "text" in message)
                if self._session.state is not State.GREETING:
                    timer.cancel()
                protocol.deliver_directly()
        finally:
            timer.cancel()
            protocol.attach(None)
            self._gone()

    def _hello_timed_out(self) -> None:
        if self._session.state is State.GREETING:
            self._close(Close.HELLO_TIMEOUT, "no hello")

    def _gone(self) -> None:
        self._connection.closed = True
        if self._session.state is not State.CLOSED:
            self._session.become(State.CLOSED)
        for task in self._tasks or ():
            task.cancel()
        client, meter = self._client, self._session.meter
        if client is not None and meter is not None:
            self._pod.meters.rest(meter)
        if client is not None and self._pod.hub.deregister(client):
            self._pod.rooms.user_gone(client.user_id)

    def _tell(self, event: str, **fields: object) -> None:
        """Who came and went, for whoever looks for a person's traces in the logs."""
        client = self._client
        if client is not None:
            who = {"user_id": client.user_id, "device_id": client.device_id, "session_id": client.session_id}
            log.info(event, extra={**who, **fields})

    def _close(self, code: Close, reason: str) -> None:
        self._connection.close(code, reason)

    def _write(self, frame: ServerFrame) -> None:
        if self._session.binary:
            self._connection.write(binary_frame(encode_msgpack(frame)))
        else:
            self._connection.write(text_frame(encode_json(frame)))

    def broken(self, code: int) -> None:
        """What the client did is told in our own words before the transport closes it with its code."""
        self._write(self._session.broken(code))
        self._connection.flush()

    def take(self, data: bytes, is_text: bool) -> None:
        """Whatever arrives ends at most this socket, with a code, and is logged once."""
        try:
            self._take(data, is_text)
        except Exception:
            log.exception("frame failed")
            self._close(Close.INTERNAL, "internal fault")

    def _take(self, data: bytes, is_text: bool) -> None:
        if self._client is not None:
            self._client.beat_at = asyncio.get_running_loop().time()
        outcome = self._session.receive(data, is_text)
        match outcome:
            case None:
                return
            case Refuse(error=error):
                self._write(error)
            case Reject(error=error, close=code):
                self._write(error)
                self._close(code, error.code)
                self._session.become(State.CLOSED)
            case Hello():
                self._session.become(State.OPENING)
                self._spawn(self._open(outcome))
            case _:
                self._run(outcome)

    # --- hello --------------------------------------------------------------------------------------------

    async def _open(self, hello: Hello) -> None:
        pod = self._pod
        try:
            if pod.drainer.draining:
                raise ChatError(Code.DRAINING)
            if len(pod.hub.clients) >= pod.settings.capacity:
                # Discovery counts seats that it gave, and not those that were given at the same time elsewhere.
                raise ChatError(Code.NO_CAPACITY, limit=pod.settings.capacity, retry_after_s=1.0)
            ticket = pod.redeemer.redeem(hello.ticket, pod.lease.incarnation)
            pod.kernel.messaging.reading.check_cursors(hello.cursors)
            now_s = asyncio.get_running_loop().time()
            actor = Actor(ticket.user_id, ticket.device_id)
            self._client = client = Client(secrets.token_hex(8), actor, self._connection, now_s)
            if self._connection.closed:
                return
            self._session.meter = pod.meters.of(client.device_id)
            pod.hub.make_room(client, pod.live.limits.sockets_per_device_max)
            pod.hub.register(client)
            await pod.rooms.user_came(client.user_id)
            # Only now that this pod is told of revocations: one that comes before this look is seen by it.
            if not await pod.device_is_live(client.device_id):
                raise ChatError(Code.DEVICE_REVOKED)
            self._write(self._welcome(hello, client))
            await pod.opener.open(client, hello.id, hello.cursors)
        except ChatError as error:
            self._write(error_frame(hello.id, error))
            self._close(_close_code(error), str(error.code))
            return
        if self._session.state is State.OPENING:
            self._session.become(State.LIVE)
            self._write(Ack(hello.id))
            self._tell("client came")
            await pod.presence.arrived(client)

    def _welcome(self, hello: Hello, client: Client) -> Welcome:
        settings = self._pod.settings
        return Welcome(
            hello.id,
            client.session_id,
            client.user_id,
            client.device_id,
            settings.pod,
            now_ms(),
            settings.presence.heartbeat_interval_s,
            settings.presence.offline_after_s,
            self._pod.live.limits,
        )

    # --- frames -------------------------------------------------------------------------------------------

    def _run(self, frame: ClientFrame) -> None:
        """Quick frames are answered without a task; the others get one each, bounded by the open requests."""
        client = self._client
        if isinstance(frame, Ping):
            self._pong(frame, client)
            return
        if client is None:
            return
        try:
            if isinstance(frame, Send):
                self._pod.messages_in += 1
                room = self._pod.hub.rooms.get(frame.channel_id)
                if (
                    room is not None
                    and frame.channel_id in client.rooms
                    and self._quick(client.actor, frame, room.members_seq)
                ):
                    return
            elif isinstance(frame, Read | Delivered | Typing) and frame.channel_id in client.rooms:
                self._light(client.actor, frame, self._pod.hub.rooms[frame.channel_id].member_count)
                return
            self._pod.gate.enter()
        except ChatError as error:
            self._finish(frame.id, error_frame(frame.id, error))
            return
        self._spawn(self._perform(client, frame))

    def _quick(self, actor: Actor, frame: Send, members_seq: int) -> bool:
        messaging = self._pod.kernel.messaging
        if not messaging.quick(frame):
            return False

        def done(placed: Placed | None, error: ChatError | None, duplicate: bool) -> None:
            if placed is not None:
                self._finish(frame.id, ack_of(frame.id, frame.channel_id, placed, duplicate))
            else:
                self._finish(frame.id, error_frame(frame.id, error or ChatError(Code.INTERNAL)))

        messaging.submit(actor, frame, members_seq, done)
        return True

    def _light(self, actor: Actor, frame: Read | Delivered | Typing, member_count: int) -> None:
        messaging = self._pod.kernel.messaging
        if isinstance(frame, Typing):
            messaging.typing(actor.user_id, frame, member_count)
            self._finish(frame.id, Ack(frame.id))
            return

        def answer(error: ChatError | None) -> None:
            self._finish(frame.id, Ack(frame.id) if error is None else error_frame(frame.id, error))

        messaging.move_watermark(actor.user_id, frame, member_count, answer)

    def _pong(self, ping: Ping, client: Client | None) -> None:
        """Before the `ack` of `hello` the sum is 0 of 0 channels: it says nothing yet. It is of this very moment, and
        so it is made for each ping: whoever is in many channels may not ask as often."""
        rooms = self._pod.hub.rooms
        live = client.rooms if client is not None and self._session.state is State.LIVE else ()
        self._session.charge(len(live) / ROOMS_PER_FRAME)
        head_sum = sum(rooms[channel_id].last_seq or 0 for channel_id in live)
        self._finish(ping.id, Pong(ping.id, now_ms(), head_sum, len(live)))

    async def _perform(self, client: Client, frame: ClientFrame) -> None:
        try:
            if isinstance(frame, Sync | History):
                # One client's long answers must not take the store's readers from all the others.
                turn = await self._turn()
                try:
                    await self._answer(client, frame)
                finally:
                    turn.release()
            else:
                await self._answer(client, frame)
        except ChatError as error:
            self._finish(frame.id, error_frame(frame.id, error))
        finally:
            self._pod.gate.leave()

    async def _turn(self) -> asyncio.Semaphore:
        """Taken: to be released. Raises ChatError(BUSY) when those before have not ended for long: each of them may
        wait for the store until that is given up, and they would add up."""
        most = self._pod.live.limits.reads_at_once_max
        if self._reading is None or self._reading[0] != most:
            # Those that wait by the limit of before are few, and end.
            self._reading = most, asyncio.Semaphore(most)
        turns = self._reading[1]
        try:
            async with asyncio.timeout(TURN_WITHIN_S):
                await turns.acquire()
        except TimeoutError as error:
            raise ChatError(
                Code.BUSY, "Earlier reads of this connection have not ended", retry_after_s=1.0
            ) from error
        return turns

    async def _answer(self, client: Client, frame: ClientFrame) -> None:
        """Raises ChatError."""
        messaging, actor = self._pod.kernel.messaging, client.actor
        if isinstance(frame, Sync):
            async for found in messaging.reading.sync(actor.user_id, frame):
                if isinstance(found, Page) and found.left:
                    # Somebody who was added again meanwhile has the channel live by that event.
                    left = [channel_id for channel_id in found.left if channel_id not in client.rooms]
                    self._write(msgspec.structs.replace(found, left=left))
                else:
                    self._write(found)
                await self._pod.opener.pace(client)
            self._finish(frame.id, Ack(frame.id))
            return
        most = self._pod.live.limits.watches_max
        if isinstance(frame, PresenceWatch) and frame.channel_id is None and len(frame.user_ids) <= most:
            # Watch first, read then: a change in between is told twice rather than never.
            await self._pod.presence.watch(client, frozenset(frame.user_ids))
        *rest, answer = await messaging.perform(actor, frame)
        for other in rest:
            self._write(other)
        self._finish(frame.id, answer)

    def _finish(self, frame_id: str, answer: ServerFrame) -> None:
        self._session.finished(frame_id)
        self._write(answer)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(self._guard(work))
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
            if not self._tasks:
                self._tasks = None  # an empty set would cost every idle connection 200 bytes

    async def _guard(self, work: Any) -> None:
        """A fault of our own ends this socket, resumably, and is logged once; it never reaches the client as text."""
        try:
            await work
        except Exception:
            log.exception("frame failed")
            self._close(Close.INTERNAL, "internal fault")


def _close_code(error: ChatError) -> Close:
    if error.code is Code.DRAINING:
        return Close.MIGRATED
    if error.code is Code.DEVICE_REVOKED:
        return Close.DEVICE_REVOKED
    if error.code is Code.NO_CAPACITY:
        return Close.NO_CAPACITY
    if error.retryable:
        return Close.INTERNAL
    if error.code in (Code.INVALID_FIELD, Code.LIMIT_REACHED):
        return Close.POLICY
    return Close.TICKET_REFUSED
