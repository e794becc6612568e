"""The parts of one chat pod that decide what a client is sent, on a real store: no process, no Redis, no sockets.

A race is forced at one chosen call of the store: `store.after("grant", step)` runs `step` once, between the answer
and the moment in which the pod goes on with it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from support.live import live

from chatkernel.appender import Appender
from chatkernel.bus import Envelope
from chatkernel.errors import Close
from chatkernel.ids import new_client_msg_id, now_ms
from chatkernel.messaging import Actor
from chatkernel.protocol import (
    Cursor,
    Event,
    EventKind,
    Limits,
    Page,
    ServerFrame,
    decode_server_json,
    encode_json,
)
from chatkernel.storage.model import ChannelInfo, ChannelKind
from chatkernel.storage.store import Store
from chatkernel.wiring import post_of
from chatpod.client import Client
from chatpod.healer import Healer
from chatpod.hub import Hub
from chatpod.opening import Opener
from chatpod.rooms import Rooms

Step = Callable[[], Awaitable[Any]]

ANY_SEQ = 10**9
"""As of a change of membership that is yet to come: the writer of the test may do everything."""


class HookedStore:
    """A real store; chosen calls of it are followed, or preceded, by one step of the test."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[str, list[Step]] = defaultdict(list)
        self._after: dict[str, list[Step]] = defaultdict(list)
        self.calls: list[str] = []

    def before(self, name: str, *steps: Step) -> None:
        self._before[name] += steps

    def after(self, name: str, *steps: Step) -> None:
        self._after[name] += steps

    def moved_to(self, store: Store) -> None:
        """As when a standby is promoted."""
        self._store = store

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self._before[name]:
                await self._before[name].pop(0)()
            found = await real(*args, **kwargs)
            if self._after[name]:
                await self._after[name].pop(0)()
            return found

        return call


class Wire:
    """What a client was sent, decoded; it reads everything at once."""

    binary = False

    def __init__(self) -> None:
        self.closed = False
        self.closed_with: Close | None = None
        self.frames: list[ServerFrame] = []
        self.sizes_bytes: list[int] = []

    def write(self, data: bytes) -> None:
        while data:
            size, start = data[1], 2
            if size == 126:
                (size,), start = struct.unpack("!H", data[2:4]), 4
            elif size == 127:
                (size,), start = struct.unpack("!Q", data[2:10]), 10
            self.frames.append(decode_server_json(data[start : start + size]))
            self.sizes_bytes.append(size)
            data = data[start + size :]

    def unsent_bytes(self) -> int:
        return 0

    def close(self, code: Close, reason: str = "") -> None:
        self.closed, self.closed_with = True, code

    @property
    def pages(self) -> list[Page]:
        return [frame for frame in self.frames if isinstance(frame, Page)]

    @property
    def left(self) -> list[str]:
        return [channel_id for page in self.pages for channel_id in page.left]

    def events(self, channel_id: str) -> list[Event]:
        """All events of the channel as they came, live and in pages."""
        found: list[Event] = []
        for frame in self.frames:
            found += [frame] if isinstance(frame, Event) else frame.events if isinstance(frame, Page) else []
        return [event for event in found if event.channel_id == channel_id]

    def texts(self, channel_id: str) -> list[str]:
        return [event.text for event in self.events(channel_id) if event.text is not None]


class NoRoutes:
    """What the pod wants routed to it."""

    def __init__(self) -> None:
        self.wanted: set[tuple[str, str]] = set()

    async def add(self, **names: Sequence[str]) -> None:
        self.wanted |= {(kind, name) for kind, some in names.items() for name in some}

    async def remove(self, **names: Sequence[str]) -> None:
        self.wanted -= {(kind, name) for kind, some in names.items() for name in some}


class OnePod:
    """`heal` is run by hand, where a test wants it."""

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.store, self.routes = HookedStore(store), NoRoutes()
        self.looked_at: list[str] = []
        self.hub = Hub(
            on_behind=lambda room: self.looked_at.append(room.channel_id),
            on_room_opened=lambda channel_id: self.rooms.opened_by_event(channel_id),
            on_rooms_closed=lambda channel_ids: self.rooms.closed(channel_ids),
            on_unwatched=lambda _: None,
            on_blocks_changed=lambda: None,
            appender=Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None),
        )
        hooked: Any = self.store
        routes: Any = self.routes
        self.rooms = Rooms(self.hub, routes, hooked, self.looked_at.append)
        self.opener = Opener(self.hub, self.rooms, hooked, live(limits))
        self.healer = Healer(self.hub, self.opener, hooked, 10.0)

    async def heal(self) -> None:
        """Look after what was asked for, as the healer's loop does."""
        wanted, self.looked_at[:] = list(self.looked_at), []
        await self.healer._heal(wanted)

    def client(self, user_id: str) -> tuple[Client, Wire]:
        """Somebody who has said `hello`."""
        wire, number = Wire(), len(self.hub.clients)
        connection: Any = wire
        client = Client(f"{user_id}-{number}", Actor(user_id, f"{user_id}-device"), connection, 0.0)
        self.hub.register(client)
        return client, wire

    async def came(self, user_id: str, cursors: Mapping[str, Cursor] | None = None) -> tuple[Client, Wire]:
        """Somebody for whom everything is open."""
        client, wire = self.client(user_id)
        await self.opener.open(client, "h", dict(cursors or {}))
        return client, wire


class Elsewhere:
    """Another pod: it writes to the log, and the bus brings what it wrote at once, or when the test says so."""

    def __init__(self, store: Store, pod: OnePod) -> None:
        self._pod, self.holding = pod, False
        self.held: list[Envelope] = []
        self._appender = Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=self._stored)

    def _stored(self, events: Sequence[Event]) -> None:
        for event in events:
            envelope = post_of(event, encode_json(event)).envelope
            if self.holding:
                self.held.append(envelope)
            else:
                self._pod.hub.take(envelope)

    def deliver(self, *numbers: int) -> None:
        """Bring these of the held envelopes, in this order (none named: all)."""
        for number in numbers or range(len(self.held)):
            self._pod.hub.take(self.held[number])

    async def group(self, channel_id: str, *users: str) -> None:
        await self._append(
            channel_id,
            EventKind.CREATED,
            users=list(users),
            channel=ChannelInfo(channel_id, ChannelKind.GROUP, "Team", False),
        )

    async def say(self, channel_id: str, text: str) -> None:
        await self._append(channel_id, EventKind.MESSAGE, text=text)

    async def join(self, channel_id: str, *users: str) -> None:
        await self._append(channel_id, EventKind.JOIN, users=list(users))

    async def leave(self, channel_id: str, *users: str) -> None:
        await self._append(channel_id, EventKind.LEAVE, users=list(users))

    async def _append(self, channel_id: str, kind: EventKind, **fields: Any) -> None:
        await self._appender.append(
            channel_id=channel_id,
            sender_id="u_own",
            client_msg_id=new_client_msg_id(),
            kind=kind,
            members_seq=0 if kind is EventKind.CREATED else ANY_SEQ,
            **fields,
        )
