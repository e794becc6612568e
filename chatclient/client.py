"""The client: one device of one person, always connected, that misses nothing and sends nothing twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx

from chatclient.archive import Archive, HistoryView
from chatclient.backoff import Backoff
from chatclient.cache import Cache
from chatclient.errors import Closed, Unreachable
from chatclient.http import Api, Credentials, Tokens
from chatclient.link import ANSWER_TIMEOUT_S, Link, error_of
from chatclient.listener import Down, Ended, Listener, StateChange, Up
from chatclient.outbox import ACK_TIMEOUT_S, Command, Outbox
from chatclient.roamer import Roamer
from chatclient.sync import SyncState
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import (
    Ack,
    ClientFrame,
    Delete,
    Delivered,
    Edit,
    Error,
    Event,
    Hello,
    History,
    Limits,
    Migrate,
    Notice,
    Page,
    Pong,
    Presence,
    PresenceEntry,
    PresenceWatch,
    React,
    Read,
    Receipt,
    Resync,
    Seat,
    Seats,
    Send,
    ServerFrame,
    Sync,
    Typing,
    TypingNotice,
    Welcome,
)

TICK_S = 0.25
"""How often overdue and delayed commands are looked at, while there are any."""

SUSPICION_S = 3.0
"""An ack that takes longer makes the client ask whether the pod is still there."""

RESYNC_PAUSE_S = 0.5
"""After a failed sync request the next one waits this long."""


class ChatClient:
    """Use as `async with ChatClient(url, credentials=…) as client: await client.connect()`.

    Not thread-safe; belongs to one event loop. The `listener` is told everything; `changes()` iterates over
    it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None = None,
        tokens: Tokens | None = None,
        cache_path: Path | None = None,
        listener: Listener | None = None,
        on_tokens: Callable[[Tokens], None] | None = None,
        region: str = "",
        msgpack: bool = False,
        http: httpx.AsyncClient | None = None,
        rng: Random | None = None,
        agent: str = "chatclient-python",
    ) -> None:
        """`cache_path`: where this device keeps its cursors, history and unacked sends; None: only in memory.

        `on_tokens` is called with every new pair of tokens, to be kept by whoever keeps sessions.
        """
        self._rng = rng or Random()
        self.api = Api(
            base_url, tokens=tokens, credentials=credentials, http=http, on_tokens=on_tokens, rng=self._rng
        )
        self.listener = listener or Listener()
        self.limits = Limits()
        self.heartbeat_interval_s = 10.0
        self.paged_events = self.live_events = 0
        self._cache_path, self._region, self._msgpack, self._agent = cache_path, region, msgpack, agent
        self._cache: Cache | None = None
        self._archive: Archive | None = None
        self._ids = itertools.count(1)
        self._outbox = Outbox(self._new_id, lambda: Backoff(self._rng))
        self._sync = SyncState("")
        self._asked_on: dict[str, tuple[Link, float]] = {}
        self._roamer: Roamer | None = None
        self._task: asyncio.Task[None] | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ask_again: asyncio.TimerHandle | None = None
        self._first_up = asyncio.Event()
        self._ended: str | None = None
        self._watched: PresenceWatch | None = None
        self._queues: list[asyncio.Queue[Event | StateChange]] = []

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- life ---

    async def connect(self, timeout_s: float | None = None) -> None:
        """Returns when connected and in sync; from then on the client stays so by itself.

        Raises ChatError (log-in or session refused), Closed, or Unreachable when it takes longer than
        `timeout_s` (None: waits for ever).
        """
        if self._task is None:
            await self._start()
        assert self._roamer is not None  # noqa: S101 - made by _start
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_up.wait()
        except TimeoutError as error:
            raise Unreachable(self._roamer.last_problem or "no chat pod answered in time") from error
        if self._ended is not None:
            raise Closed(self._ended)

    async def _start(self) -> None:
        await self.api.access_token()
        assert self.api.tokens is not None  # noqa: S101 - access_token gave one
        user_id = self.api.tokens.user_id
        cursors: dict[str, int] = {}
        if self._cache_path is not None:
            self._cache = Cache(self._cache_path, user_id)
            cursors = self._cache.cursors()
        self._sync = SyncState(user_id, cursors, self.listener.on_refused)
        if self._cache is not None:
            self._archive = Archive(self._cache, self._sync.cursors, self._fetch_page)
            for command in self._cache.outbox():
                self._outbox.add(command, self._done_with(command, None))
        loop = asyncio.get_running_loop()
        self._roamer = Roamer(self, self._take_seats, self._rng, loop.time)
        self._task = loop.create_task(self._roamer.run(), name=f"chatclient {user_id}")

    async def close(self) -> None:
        """Closes the connection; what is unacked stays in the cache and is sent at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._roamer is not None and self._roamer.link is not None:
            self._roamer.link.close()
        for timer in (self._tick, self._ask_again):
            if timer is not None:
                timer.cancel()
        self._outbox.abandon()
        if self._archive is not None:
            self._archive.close()
            self._archive = self._cache = None
        await self.api.close()

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
    def unacked(self) -> int:
        return len(self._outbox)

    @property
    def moves(self) -> int:
        """How often a pod asked us to move, and we did."""
        return 0 if self._roamer is None else self._roamer.moves

    @property
    def reconnects(self) -> int:
        return 0 if self._roamer is None else self._roamer.reconnects

    async def changes(self) -> AsyncIterator[Event | StateChange]:
        """Everything from now on, in order; ends when the session does."""
        queue: asyncio.Queue[Event | StateChange] = asyncio.Queue()
        self._queues.append(queue)
        try:
            while True:
                change = await queue.get()
                yield change
                if isinstance(change, Ended):
                    return
        finally:
            self._queues.remove(queue)

    # --- what the app may do ---

    async def send(
        self,
        channel_id: str,
        text: str,
        *,
        reply_to: int | None = None,
        metadata: dict[str, Any] | None = None,
        client_msg_id: str | None = None,
    ) -> Ack:
        """Returns when the message is stored for good; reconnects and resends by itself until then.

        Raises ChatError when the server refuses it, Closed when the client ends first.
        """
        key = client_msg_id or new_client_msg_id()
        return await self.submit(Send("-", channel_id, key, text, reply_to, metadata))

    async def edit(self, channel_id: str, message_id: int, text: str) -> Ack:
        return await self.submit(Edit("-", channel_id, new_client_msg_id(), message_id, text))

    async def delete(self, channel_id: str, message_id: int) -> Ack:
        return await self.submit(Delete("-", channel_id, new_client_msg_id(), message_id))

    async def react(self, channel_id: str, message_id: int, emoji: str, *, on: bool = True) -> Ack:
        return await self.submit(React("-", channel_id, new_client_msg_id(), message_id, emoji, on))

    def submit(self, command: Command) -> asyncio.Future[Ack]:
        """Puts a command in the outbox at once; its `id` is chosen anew at each sending. See `send`."""
        if self._ended is not None:
            raise Closed(self._ended)
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        if self._cache is not None:
            self._cache.put_command(command)
        self._outbox.add(command, self._done_with(command, future))
        self._pump()
        return future

    def mark_read(self, channel_id: str, seq: int) -> None:
        """A watermark: lost ones are made good by the next."""
        self._say(Read(self._new_id(), channel_id, seq))

    def mark_delivered(self, channel_id: str, seq: int) -> None:
        self._say(Delivered(self._new_id(), channel_id, seq))

    def typing(self, channel_id: str, *, on: bool = True) -> None:
        self._say(Typing(self._new_id(), channel_id, on))

    async def watch_presence(
        self, user_ids: Sequence[str] = (), channel_id: str | None = None
    ) -> list[PresenceEntry]:
        """The present state; changes come to the listener, also after a reconnect. Raises ChatError,
        Unreachable."""
        watch = PresenceWatch(self._new_id(), list(user_ids), channel_id)
        if channel_id is None:
            self._watched = watch
        answer = await self._link().request(watch)
        return [] if answer.presence is None else answer.presence.entries

    async def history(self, channel_id: str, *, limit: int = 50, **where: int) -> HistoryView:
        """`where`: at most one of before, after (seqs), around (message id), at (Unix ms); none: the newest.

        Pages going back are answered from the cache as far as it goes. Raises ChatError or Unreachable.
        """
        if self._archive is not None and not where.keys() - {"before"}:
            return await self._archive.before(channel_id, where.get("before"), limit)
        page = await self._fetch_page(channel_id, {"limit": limit, **where})
        return HistoryView(page.items, page.more_before, page.more_after)

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
                self.live_events += len(events)
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
            self._sync.resync(frame.channel_ids)
            self._ask()
        else:
            self._tell(frame)

    # --- inside: frames ---

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

    async def _fetch_page(self, channel_id: str, where: dict[str, int]) -> Page:
        where["limit"] = min(where.get("limit", 50), self.limits.page_max_items)
        answer = await self._link().request(History(self._new_id(), channel_id, **where))
        if not answer.pages:
            raise Unreachable("the history did not come")
        return answer.pages[0]
