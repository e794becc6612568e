"""Which events the app has had and which are missing: the client's half of promises 3, 4 and 5, without I/O.

Per channel there is one cursor: everything up to it was handed to the app, in order. An event that leaves a
gap is held and its channel is asked for; what comes twice is dropped. While a client moves between pods, two
sockets feed the same state: both only ever move a cursor forward, so it does not matter which is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chatkernel.protocol import (
    MEMBERSHIP_KINDS,
    ChannelHead,
    Cursor,
    Event,
    EventKind,
    Page,
    Pong,
    Position,
)

HELD_MAX = 1_000
"""Events of one channel that are held behind a gap; more are dropped, for the sync brings them anyway."""

_NONE: tuple[Event, ...] = ()
_STARTS = frozenset({EventKind.CREATED, EventKind.JOIN})
_ENDS = frozenset({EventKind.LEAVE, EventKind.BAN})


def _ignore(_event: Event) -> None:
    return None


class SyncState:
    """Cursors, what is held behind gaps, and what has to be asked for.

    `cursors` is the state to persist. `event` and `page` return what the app is to see now, in order.
    """

    __slots__ = (
        "_asked",
        "_at",
        "_held",
        "_left_at",
        "_wanted",
        "cursors",
        "jumps",
        "on_refused",
        "user_id",
    )

    def __init__(
        self,
        user_id: str,
        cursors: Mapping[str, int] | None = None,
        on_refused: Callable[[Event], None] = _ignore,
        message_ids: Mapping[str, int] | None = None,
    ) -> None:
        """`on_refused` is told of each event that is not handed on: seen before, or of a channel not ours.
        `message_ids`: of the events where the cursors stand, where they are known."""
        self.user_id = user_id
        self.cursors: dict[str, int] = dict(cursors or {})
        # The last event that moved each cursor, as (seq, message id): it tells a server whose log the cursor is of.
        self._at = {name: (self.cursors[name], found) for name, found in (message_ids or {}).items()}
        self.on_refused = on_refused
        self._held: dict[str, dict[int, Event]] = {}
        self._asked: dict[str, Mapping[str, Cursor]] = {}
        self._wanted: set[str] = set()
        # Where we left a channel: a head that was read before the leaving must not bring the channel back.
        self._left_at: dict[str, int] = {}
        self.jumps = 0

    # --- what came in ---

    def event(self, event: Event) -> Sequence[Event]:
        """A live event. Returns what the app is to see now: mostly just it."""
        channel_id, seq = event.channel_id, event.seq
        cursor = self.cursors.get(channel_id)
        if cursor is None:
            return self._unknown(event)
        if seq == cursor + 1:
            self._moved(event)
            if event.kind in MEMBERSHIP_KINDS:
                self._membership(event)
            return (event,) if not self._held else (event, *self._release(channel_id))
        if seq <= cursor:
            self.on_refused(event)
            return _NONE
        self._hold(event)
        return _NONE

    def page(self, page: Page) -> Sequence[Event]:
        """A page of kind `sync`. Returns what the app is to see now."""
        seen: list[Event] = []
        for event in page.events:
            self._paged(event, seen)
        asked = self._asked.get(page.id, {})
        for channel_id, head in page.heads.items():
            self._head(channel_id, head, channel_id in asked, seen)
        for channel_id in page.left:
            self.forget(channel_id)
        return seen

    def resync(self, channel_ids: Iterable[str] | None) -> None:
        """The server may have missed something in these channels (None: in all)."""
        self._wanted.update(self.cursors if channel_ids is None else channel_ids)

    def reset(self, channel_ids: Iterable[str]) -> None:
        """Our cursors of these are of another log than the server's: they begin anew, at the heads that follow."""
        for channel_id in channel_ids:
            self.forget(channel_id)
            self._left_at.pop(channel_id, None)

    def pong(self, pong: Pong) -> bool:
        """Whether we are behind what the server says it has sent; then all channels become wanted."""
        if self._asked:
            return False  # an answer is on its way that will put both numbers right
        even = pong.channels == len(self.cursors) and pong.head_sum == sum(self.cursors.values())
        if even and not self._held:
            return False
        self.resync(None)
        return True

    # --- what to ask ---

    def greeting(self, frame_id: str, limit: int) -> dict[str, Cursor]:
        """The cursors for a `hello`; channels over `limit` are asked for when their heads come."""
        cursors = {channel_id: self._cursor(channel_id) for channel_id in list(self.cursors)[-limit:]}
        self._asked[frame_id] = cursors
        self._wanted.difference_update(cursors)
        return cursors

    @property
    def wants(self) -> bool:
        return bool(self._wanted)

    def ask(self, frame_id: str, limit: int) -> dict[str, Cursor]:
        """The cursors for a `sync` frame with this id: wanted channels that no open request covers, or
        empty."""
        busy = {channel_id for asked in self._asked.values() for channel_id in asked}
        chosen = [channel_id for channel_id in self._wanted if channel_id not in busy][:limit]
        self._wanted.difference_update(chosen)
        cursors = {channel_id: self._cursor(channel_id) for channel_id in chosen}
        if cursors:
            self._asked[frame_id] = cursors
        return cursors

    def answered(self, frame_id: str) -> None:
        """The `ack` (or the end of hope) of a request. What is still held is asked for at the next
        heartbeat."""
        for channel_id in self._asked.pop(frame_id, ()):
            if channel_id not in self.cursors:  # asked from 0, and the server did not say that we are in it
                self.forget(channel_id)

    def failed(self, frame_id: str) -> None:
        """The request got an error or its connection died: its channels are wanted again."""
        self._wanted.update(self._asked.pop(frame_id, ()))

    def forget(self, channel_id: str) -> None:
        """We are no longer in this channel."""
        seq = self.cursors.pop(channel_id, 0)
        self._at.pop(channel_id, None)
        self._left_at[channel_id] = max(seq, self._left_at.get(channel_id, 0))
        for event in self._held.pop(channel_id, {}).values():
            self.on_refused(event)
        self._wanted.discard(channel_id)

    @property
    def settled(self) -> bool:
        """Nothing held, nothing wanted, nothing asked: the app has all that we know of."""
        return not (self._held or self._wanted or self._asked)

    # --- inside ---

    def _cursor(self, channel_id: str) -> Cursor:
        seq = self.cursors.get(channel_id, 0)
        at, message_id = self._at.get(channel_id, (0, 0))
        return Position(seq, message_id) if message_id and at == seq else seq

    def _moved(self, event: Event) -> None:
        self.cursors[event.channel_id] = event.seq
        self._at[event.channel_id] = (event.seq, event.message_id)

    def _unknown(self, event: Event) -> Sequence[Event]:
        if event.kind in _STARTS and self.user_id in (event.users or ()):
            self._begin(event)
            return (event, *self._release(event.channel_id))
        if event.seq <= self._left_at.get(event.channel_id, 0):
            self.on_refused(event)
            return _NONE
        # We are in a channel whose JOIN we have not had: the answer to "from 0" begins with what we may see.
        self._hold(event)
        return _NONE

    def _begin(self, event: Event) -> None:
        self._moved(event)
        self._left_at.pop(event.channel_id, None)

    def _membership(self, event: Event) -> None:
        if event.kind in _ENDS and self.user_id in (event.users or ()):
            self.forget(event.channel_id)

    def _hold(self, event: Event) -> None:
        held = self._held.setdefault(event.channel_id, {})
        if len(held) < HELD_MAX:
            held[event.seq] = event
        self._wanted.add(event.channel_id)

    def _paged(self, event: Event, seen: list[Event]) -> None:
        cursor = self.cursors.get(event.channel_id)
        if cursor is None:
            if event.kind in _STARTS and self.user_id in (event.users or ()):
                self._begin(event)
                seen.append(event)
            else:
                self.on_refused(event)
            return
        if event.seq <= cursor:
            self.on_refused(event)
            return
        # A page comes from the store and starts at the cursor that was asked for, so a jump in it is what
        # this person may not see (left, and joined again later); the store's word stands, and we count it.
        if event.seq != cursor + 1 and not (event.kind in _STARTS and self.user_id in (event.users or ())):
            self.jumps += 1
        self._moved(event)
        seen.append(event)
        if event.kind in MEMBERSHIP_KINDS:
            self._membership(event)

    def _head(self, channel_id: str, head: ChannelHead, asked: bool, seen: list[Event]) -> None:
        cursor, seq = self.cursors.get(channel_id), head.seq
        if cursor is None:
            if seq <= self._left_at.get(channel_id, -1):
                return
            self.cursors[channel_id] = seq
            self._left_at.pop(channel_id, None)
        elif seq > cursor:
            if not asked:
                self._wanted.add(channel_id)
                return
            self.jumps += 1
            self.cursors[channel_id] = seq
        if head.message_id and self.cursors[channel_id] == seq:
            self._at[channel_id] = (seq, head.message_id)
        seen.extend(self._release(channel_id))

    def _release(self, channel_id: str) -> list[Event]:
        """What was held and has become next in order."""
        held = self._held.get(channel_id)
        if not held:
            return []
        cursor = self.cursors[channel_id]
        out: list[Event] = []
        for seq in sorted(held):
            if seq <= cursor:
                self.on_refused(held.pop(seq))
            elif seq == cursor + 1:
                event, cursor = held.pop(seq), seq
                self._moved(event)
                out.append(event)
                if event.kind in MEMBERSHIP_KINDS:
                    self._membership(event)
                    if channel_id not in self.cursors:
                        return out
            else:
                break
        if not held:
            self._held.pop(channel_id, None)
        return out
