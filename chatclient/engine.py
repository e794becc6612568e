"""How a client stays connected and whole: seats, links, the outbox and the sync state, wired together.

`client.ChatClient` is this with what apps call.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from chatclient.archive import Archive
from chatclient.backoff import Backoff
from chatclient.cache import Cache
from chatclient.errors import Closed, NotKept, Unreachable
from chatclient.http import Api
from chatclient.link import ANSWER_TIMEOUT_S, Link, error_of
from chatclient.listener import Down, Ended, Listener, StateChange, Up
from chatclient.outbox import ACK_TIMEOUT_S, Command, Outbox
from chatclient.roamer import Roamer
from chatclient.sync import SyncState
from chatkernel.protocol import (
    Ack,
    ClientFrame,
    Error,
    Event,
    Hello,
    Limits,
    Migrate,
    Notice,
    Page,
    Pong,
    Presence,
    PresenceWatch,
    Receipt,
    Resync,
    Seat,
    Seats,
    ServerFrame,
    Sync,
    TypingNotice,
    Welcome,
)

TICK_S = 0.25
"""How often overdue and delayed commands are looked at, while there are any."""

SUSPICION_S = 3.0
"""An ack that takes longer makes the client ask whether the pod is still there."""

RESYNC_PAUSE_S = 0.5
"""After a failed sync request the next one waits this long."""


class Engine:
    """The owner of the roamer and its links. `listener` is told everything."""

    def __init__(
        self,
        api: Api,
        listener: Listener,
        *,
        rng: Random,
        region: str,
        msgpack: bool,
        agent: str,
    ) -> None:
        self.api, self.listener = api, listener
        self.limits = Limits()
        self.heartbeat_interval_s = 10.0
        self.paged_events = 0
        self._rng, self._region, self._msgpack, self._agent = rng, region, msgpack, agent
        self._cache: Cache | None = None
        self._archive: Archive | None = None
        self._ids = itertools.count(1)
        self._outbox = Outbox(self._new_id, lambda: Backoff(self._rng))
        self._sync = SyncState("")
        self._asked_on: dict[str, tuple[Link, float]] = {}
        self._roamer: Roamer | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ask_again: asyncio.TimerHandle | None = None
        self._first_up = asyncio.Event()
        self._ended: str | None = None
        self._watched: PresenceWatch | None = None
        self._queues: list[asyncio.Queue[Event | StateChange]] = []

    # --- what the app may look at ---

    @property
    def user_id(self) -> str:
        return self._sync.user_id

    @property
    def cursors(self) -> dict[str, int]:
        """Channel → the seq up to which the app has had everything. Not to be changed."""
        return self._sync.cursors

    @property
    def link(self) -> Link | None:
        """The current connection, for those who measure or break it."""
        return None if self._roamer is None else self._roamer.link

    @property
    def pod(self) -> str | None:
        link = self.link
        return link.pod if link is not None and link.is_open else None

    @property
    def connected(self) -> bool:
        return self.pod is not None

    @property
    def settled(self) -> bool:
        """Connected, nothing unacked, nothing held or asked for."""
        return self.connected and not self._outbox and self._sync.settled

    @property
    def in_sync(self) -> bool:
        """Connected, and the app has had everything that we know of."""
        return self.connected and self._sync.settled

    @property
    def moves(self) -> int:
        """How often a pod asked us to move, and we did."""
        return 0 if self._roamer is None else self._roamer.moves

    @property
    def reconnects(self) -> int:
        return 0 if self._roamer is None else self._roamer.reconnects

    # --- for the roamer and the links ---

    async def greet(self, seat: Seat) -> Link:
        hello_id = self._new_id()
        cursors = self._sync.greeting(hello_id, self.limits.cursors_max)
        link = Link(seat, self, self._new_id, msgpack=self._msgpack)
        try:
            await link.open(Hello(hello_id, seat.ticket, cursors, self._agent), self._rng.random())
        except BaseException:
            self._sync.failed(hello_id)
            raise
        self._sync.answered(hello_id)
        return link

    def on_up(self, link: Link, up: Up) -> None:
        self._first_up.set()
        self._state_changed(up)
        if self._watched is not None:
            self._say(self._watched)
        self._pump()
        self._ask()

    def on_down(self, link: Link) -> None:
        self._state_changed(Down(link.pod, link.close_code or 0))

    def on_ended(self, reason: str) -> None:
        self._ended = reason
        self._first_up.set()
        self._outbox.abandon()
        self._state_changed(Ended(reason))

    def unanswered_on(self, link: Link) -> int:
        return self._outbox.under_way_on(link)

    def on_link_closed(self, link: Link) -> None:
        self._outbox.lost(link)
        for frame_id in [name for name, (lane, _) in self._asked_on.items() if lane is link]:
            del self._asked_on[frame_id]
            self._sync.failed(frame_id)
        if self._roamer is not None:
            self._roamer.link_closed(link)
        self._pump()

    def on_frame(self, link: Link, frame: ServerFrame) -> None:
        kind = type(frame)
        if kind is Event:
            events = self._sync.event(frame)  # type: ignore[arg-type]
            if events:
                self._hand_on(events, live=True)
            if self._sync.wants:
                self._ask()
        elif kind is Ack or kind is Error:
            self._on_answer(frame)  # type: ignore[arg-type]
        elif isinstance(frame, Page):
            if frame.kind == "sync":
                self._on_sync_page(frame)
        elif isinstance(frame, Pong):
            self._on_pong(link, frame)
        elif isinstance(frame, Migrate):
            self._on_migrate(link, frame)
        elif isinstance(frame, Welcome):
            self.limits, self.heartbeat_interval_s = frame.limits, frame.heartbeat_interval_s
        elif isinstance(frame, Resync):
            self._resynced(frame)
            self._ask()
        else:
            self._tell(frame)

    # --- inside: frames ---

    def _resynced(self, frame: Resync) -> None:
        if not frame.reset:
            self._sync.resync(frame.channel_ids)
            return
        if self._archive is not None:
            self._archive.flush()
        self._sync.reset(frame.channel_ids or ())
        if self._archive is not None:
            self._archive.flush()  # what was kept of these channels goes before anything new is kept

    def _tell(self, frame: ServerFrame) -> None:
        if isinstance(frame, Receipt):
            self.listener.on_receipt(frame)
        elif isinstance(frame, TypingNotice):
            self.listener.on_typing(frame)
        elif isinstance(frame, Presence):
            self.listener.on_presence(frame)
        elif isinstance(frame, Notice):
            self.listener.on_notice(frame)

    def _hand_on(self, events: Sequence[Event], *, live: bool) -> None:
        on_event = self.listener.on_event
        for event in events:
            on_event(event, live)
        for queue in self._queues:
            for event in events:
                queue.put_nowait(event)
        if self._archive is not None:
            self._archive.note(events)

    def _state_changed(self, change: StateChange) -> None:
        self.listener.on_state(change)
        for queue in self._queues:
            queue.put_nowait(change)

    def _on_sync_page(self, page: Page) -> None:
        events = self._sync.page(page)
        self.paged_events += len(events)
        self._hand_on(events, live=False)
        first = {channel_id: head.first_seq for channel_id, head in page.heads.items() if head.first_seq > 1}
        if first and self._archive is not None:
            self._archive.forget_before(first)
        if self._sync.wants:
            self._ask()

    def _on_answer(self, frame: Ack | Error) -> None:
        if self._outbox.answer(frame, asyncio.get_running_loop().time()):
            self._pump()
        elif frame.id in self._asked_on:
            del self._asked_on[frame.id]
            if isinstance(frame, Ack):
                self._sync.answered(frame.id)
            else:
                self._sync.failed(frame.id)
                self._ask_later()

    def _on_pong(self, link: Link, pong: Pong) -> None:
        now = asyncio.get_running_loop().time()
        for frame_id, (_, since) in list(self._asked_on.items()):
            if now - since > ANSWER_TIMEOUT_S:
                del self._asked_on[frame_id]
                self._sync.failed(frame_id)
        if link is self.link and self._sync.pong(pong):
            self._ask()

    def _on_migrate(self, link: Link, frame: Migrate) -> None:
        # The deadline is in the pod's clock: what counts is how far it is from the pod's own "now" at hello.
        if self._roamer is not None:
            self._roamer.migrate_asked(link, link.until_s(frame.deadline), frame.reason)

    # --- inside: sending ---

    def _new_id(self) -> str:
        return f"c{next(self._ids)}"

    def _link(self) -> Link:
        """Raises Unreachable."""
        link = self.link
        if link is None or not link.is_open:
            raise Unreachable("not connected just now")
        return link

    def _say(self, frame: ClientFrame) -> None:
        link = self.link
        if link is not None and link.is_open:
            link.send(frame)

    def _ask(self) -> None:
        """Sends a `sync` for what is wanted, when there is somebody to ask."""
        link = self.link
        if link is None or not link.is_open or not self._sync.wants:
            return
        frame_id = self._new_id()
        cursors = self._sync.ask(frame_id, self.limits.cursors_max)
        if cursors:
            self._asked_on[frame_id] = (link, asyncio.get_running_loop().time())
            link.send(Sync(frame_id, cursors))

    def _ask_later(self) -> None:
        if self._ask_again is None or self._ask_again.cancelled():
            self._ask_again = asyncio.get_running_loop().call_later(RESYNC_PAUSE_S, self._ask_now)

    def _ask_now(self) -> None:
        self._ask_again = None
        self._ask()

    def _pump(self) -> None:
        """Sends what may be sent, and sees to it that somebody looks again while anything is unacked."""
        link = self.link
        if link is not None and link.is_open:
            for command in self._outbox.take(link, asyncio.get_running_loop().time()):
                link.send(command)
        if self._tick is None and self._outbox and self._ended is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now = asyncio.get_running_loop().time()
        for pending in self._outbox.overdue(now, SUSPICION_S):
            if isinstance(pending.lane, Link):
                pending.lane.probe()
            if now - pending.sent_at > ACK_TIMEOUT_S:
                self._outbox.again(pending)
        self._pump()

    def _done_with(
        self, command: Command, future: asyncio.Future[Ack] | None
    ) -> Callable[[Ack | Error | None], None]:
        def done(answer: Ack | Error | None) -> None:
            if answer is not None and self._cache is not None:
                with suppress(NotKept):  # sent again at the next start, it gets this answer once more
                    self._cache.drop_command(command)
            if future is None or future.done():
                return
            if isinstance(answer, Ack):
                future.set_result(answer)
            else:
                future.set_exception(
                    Closed(self._ended or "the client was closed") if answer is None else error_of(answer)
                )

        return done

    async def _take_seats(self, exclude: list[str]) -> Seats:
        return await self.api.seats(exclude, self._region)
