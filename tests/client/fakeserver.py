"""A small scripted chat cluster over real sockets: it does as the protocol says until a test tells it to
fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from chatkernel import protocol as wire
from chatkernel.protocol import (
    Ack,
    ChannelHead,
    Cursor,
    Error,
    Event,
    EventKind,
    Hello,
    History,
    HistoryItem,
    Limits,
    Migrate,
    Page,
    Ping,
    Pong,
    Seat,
    Seats,
    Send,
    Sync,
    Welcome,
)
from chatkernel.reading import seq_of

HEARTBEAT_S = 0.4


class Log:
    """The one store of the cluster."""

    def __init__(self) -> None:
        self.channels: dict[str, list[Event]] = {}

    def add(self, channel_id: str, sender: str, key: str, text: str, **fields: Any) -> Event:
        events = self.channels.setdefault(channel_id, [])
        seq = len(events) + 1
        kind = fields.pop("kind", EventKind.MESSAGE)
        event = Event(
            channel_id, seq, seq * 10, kind, sender, key, 1_800_000_000_000 + seq, text=text, **fields
        )
        events.append(event)
        return event

    def find(self, channel_id: str, sender: str, key: str) -> Event | None:
        for event in self.channels.get(channel_id, []):
            if (event.sender_id, event.client_msg_id) == (sender, key):
                return event
        return None


class FakePod:
    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.server: Server | None = None
        self.sockets: dict[ServerConnection, dict[str, int]] = {}
        self.received: list[Any] = []
        self.intercept: Callable[[ServerConnection, Any], bool] | None = None
        """Returns True to swallow the frame (no answer)."""
        self.deaf = False
        self.refuse: str | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}/ws"

    async def start(self) -> None:
        protocols = [wire.SUBPROTOCOL_JSON, wire.SUBPROTOCOL_MSGPACK]
        self.server = await serve(
            self.session, "127.0.0.1", 0, compression=None, subprotocols=protocols, ping_interval=None
        )

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close(close_connections=False)
            for socket in list(self.sockets):
                socket.transport.abort()
            await self.server.wait_closed()

    def kill(self) -> None:
        """As SIGKILL: the port and all connections are gone at once."""
        assert self.server is not None
        self.server.close(close_connections=False)
        for socket in list(self.sockets):
            socket.transport.abort()

    async def session(self, socket: ServerConnection) -> None:
        decode: Callable[[Any], Any] = wire.decode_client_json
        if socket.subprotocol == wire.SUBPROTOCOL_MSGPACK:
            decode = wire.decode_client_msgpack
        with suppress(ConnectionClosed):
            try:
                async for data in socket:
                    frame = decode(data)
                    self.received.append(frame)
                    if self.deaf or (self.intercept is not None and self.intercept(socket, frame)):
                        continue
                    await self.answer(socket, frame)
            finally:
                self.sockets.pop(socket, None)

    async def put(self, socket: ServerConnection, frame: Any) -> None:
        if socket.subprotocol == wire.SUBPROTOCOL_MSGPACK:
            await socket.send(wire.encode_msgpack(frame))
        else:
            await socket.send(wire.encode_json(frame).decode())

    async def answer(self, socket: ServerConnection, frame: Any) -> None:
        if isinstance(frame, Hello):
            if self.refuse is not None:
                await self.put(socket, Error(frame.id, self.refuse, "refused", True))
                await socket.close(4001)
                return
            limits = Limits()
            await self.put(
                socket,
                Welcome(frame.id, "s", "u_me", "d_me", self.name, 1_000, HEARTBEAT_S, 1.2, limits),
            )
            self.sockets[socket] = {}
            await self.sync(socket, frame.id, frame.cursors, {*self.cluster.log.channels})
        elif isinstance(frame, Sync):
            await self.sync(socket, frame.id, frame.cursors, set(frame.cursors))
        elif isinstance(frame, Send):
            await self.store(socket, frame)
        elif isinstance(frame, Ping):
            live = self.sockets.get(socket, {})
            await self.put(socket, Pong(frame.id, 1_000, sum(live.values()), len(live)))
        elif isinstance(frame, History):
            await self.history(socket, frame)
        else:
            await self.put(socket, Ack(frame.id))

    async def sync(
        self, socket: ServerConnection, name: str, cursors: dict[str, Cursor], heads: set[str]
    ) -> None:
        live = self.sockets.setdefault(socket, {})
        channels = self.cluster.log.channels
        events = [event for c, cursor in cursors.items() for event in channels.get(c, [])[seq_of(cursor) :]]
        for start in range(0, max(1, len(events)), 50):
            chunk = events[start : start + 50]
            if start + 50 >= len(events):
                ends = {c: ChannelHead(len(self.cluster.log.channels.get(c, []))) for c in heads}
                live.update({c: head.seq for c, head in ends.items()})
                await self.put(socket, Page(name, "sync", chunk, ends))
            else:
                await self.put(socket, Page(name, "sync", chunk, done=False))
        await self.put(socket, Ack(name))

    async def store(self, socket: ServerConnection, frame: Send) -> None:
        event = self.cluster.log.find(frame.channel_id, "u_me", frame.client_msg_id)
        duplicate = event is not None
        if event is None:
            event = self.cluster.log.add(frame.channel_id, "u_me", frame.client_msg_id, frame.text)
            await self.cluster.publish(event)
        await self.put(
            socket,
            Ack(frame.id, event.channel_id, event.seq, event.message_id, event.created_at, duplicate),
        )

    async def history(self, socket: ServerConnection, frame: History) -> None:
        events = self.cluster.log.channels.get(frame.channel_id, [])
        before = frame.before if frame.before is not None else len(events) + 1
        chosen = [event for event in events if event.seq < before][-frame.limit :]
        more = bool(chosen) and chosen[0].seq > 1
        items = [HistoryItem(event) for event in chosen]
        page = Page(frame.id, "history", channel_id=frame.channel_id, items=items, more_before=more)
        await self.put(socket, page)
        await self.put(socket, Ack(frame.id))


class FakeCluster:
    def __init__(self) -> None:
        self.log = Log()
        self.pods = {name: FakePod(self, name) for name in ("chat-1", "chat-2")}
        self.order = ["chat-1", "chat-2"]
        self.seat_requests: list[dict[str, Any]] = []
        self.api_down = False
        self.url = ""
        self.logins = 0

    async def start(self) -> None:
        for pod in self.pods.values():
            await pod.start()
        routes = [
            Route("/v1/seats", self.seats, methods=["POST"]),
            Route("/v1/sessions", self.login, methods=["POST"]),
            Route("/v1/sessions/refresh", self.refresh, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=0, log_level="error", lifespan="off", ws="none"
        )
        self._api = uvicorn.Server(config)
        self._api.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task = asyncio.create_task(self._api._serve())
        while not self._api.started:
            await asyncio.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._api.servers[0].sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        for pod in self.pods.values():
            await pod.stop()
        self._api.should_exit = True
        await self._task

    async def login(self, request: Request) -> Response:
        self.logins += 1
        return self.tokens("fresh")

    async def refresh(self, request: Request) -> Response:
        body = await request.json()
        if body["refresh_token"] == "reused":
            problem = {"code": "token_reused", "detail": "used twice", "retryable": False}
            return Response(msgspec.json.encode(problem), 401, media_type="application/problem+json")
        return self.tokens("refreshed")

    def tokens(self, name: str) -> Response:
        body = {
            "user_id": "u_me",
            "device_id": "d_me",
            "access_token": name,
            "refresh_token": f"r-{name}",
            "expires_at": 4_000_000_000_000,
        }
        return Response(msgspec.json.encode(body), 201, media_type="application/json")

    async def seats(self, request: Request) -> Response:
        body = await request.json()
        self.seat_requests.append(body)
        if self.api_down:
            problem = {"code": "busy", "detail": "later", "retryable": True, "retry_after_s": 0.05}
            return Response(msgspec.json.encode(problem), 503, media_type="application/problem+json")
        names = [name for name in self.order if name not in body.get("exclude", [])]
        seats = [Seat(name, self.pods[name].url, "ticket", 4_000_000_000_000) for name in names]
        return Response(msgspec.json.encode(Seats(seats[0], seats[1:])), media_type="application/json")

    async def publish(self, event: Event) -> None:
        """To every live session of every pod."""
        for pod in self.pods.values():
            for socket, live in list(pod.sockets.items()):
                live[event.channel_id] = event.seq
                with suppress(ConnectionClosed):
                    await pod.put(socket, event)

    async def say(self, channel_id: str, text: str, *, publish: bool = True) -> Event:
        event = self.log.add(channel_id, "u_other", f"k{len(self.log.channels.get(channel_id, []))}", text)
        if publish:
            await self.publish(event)
        return event

    async def migrate(self, name: str) -> None:
        for socket in list(self.pods[name].sockets):
            await self.pods[name].put(socket, Migrate("drain", 6_000))
