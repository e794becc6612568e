"""The ports for what is sharded by channel: logs, channels, memberships, watermarks.

Every method raises ChatError(STORAGE_UNAVAILABLE | STORAGE_FULL) when the store does not answer; after such an
error of `insert` the outcome is unknown, and the caller asks `find_sent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chatkernel.protocol import Event, HistoryItem
from chatkernel.storage.model import (
    Absence,
    ChannelState,
    ConversationPage,
    ConversationPrefs,
    EventRange,
    Grant,
    Head,
    HistoryPage,
    InsertOutcome,
    Member,
    PageQuery,
    Run,
    SendKey,
    Watermark,
    WatermarkState,
)


class EventLog(Protocol):
    """The append-only logs. Reads are of committed, majority-durable data."""

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        """Store each run or refuse it; durable when this returns. One outcome per run, independent of each other.

        A plain insert against the unique keys (channel_id, seq) and (channel_id, sender_id, client_msg_id) decides
        races; a refused run says nothing about which of the two it met, and a store without transactions may have
        stored its beginning (never what stands behind the refused event): whoever is refused asks `find_sent`. The
        effects of an event (memberships, roles, name, edits, deletes, reactions, the channel's head, the sender's own
        read watermark) follow from
        the event alone, are guarded by its seq, and are stored with it where the store can, else healed.
        """

    async def heads(self, channel_ids: Sequence[str], *, within_s: float | None = None) -> dict[str, Head]:
        """The true heads, from the log itself. Channels without a log are missing. `within_s`: a store of which a
        part may be away gives up sooner than it does else."""

    async def message_ids(
        self, places: Sequence[tuple[str, int]], *, as_of_now: bool = False
    ) -> dict[str, int]:
        """The message ids at one (channel, seq) for each channel; what is not in a log is missing.

        All reads may show less than was acked, for a while around a failover. `as_of_now` they do not: nothing is
        missing that anybody was told of before this was called. That is dear, and an error while nobody can know it.
        """

    async def find_sent(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        """The stored events of these keys; missing keys were never stored."""

    async def events(self, ranges: Sequence[EventRange]) -> list[list[Event]]:
        """Events as they were appended, for sync: one list per range. Edited texts are as at that event; the
        text of a deleted message is gone from its own event too."""

    async def page(self, query: PageQuery) -> HistoryPage:
        """A page of history with the present state folded in. Raises ChatError(MESSAGE_NOT_FOUND) when `around`
        names no visible event."""

    async def message(self, channel_id: str, message_id: int) -> HistoryItem | None:
        """One message with its present state, or None."""

    async def aclose(self) -> None: ...


class Conversations(Protocol):
    """Channels, memberships and watermarks."""

    async def grant(self, channel_id: str, user_id: str) -> Grant | Absence:
        """What the person may do now. NOT_MEMBER also when there is no such channel."""

    async def grants_of(self, user_ids: Sequence[str]) -> dict[str, list[Grant]]:
        """All channels of these people. Each id is in the answer."""

    async def channels_of(self, user_ids: Sequence[str]) -> dict[str, set[str]]:
        """In which channels each of these people is. Each id is in the answer. Cheaper than grants, for comparing."""

    async def channel_counts(self, user_ids: Sequence[str]) -> dict[str, int]:
        """In how many channels each of these people is; those in none may be missing."""

    async def channel(self, channel_id: str) -> ChannelState | None: ...

    async def member_counts(self, channel_ids: Sequence[str]) -> dict[str, int]:
        """How many are in each of these channels; those that are not there are missing."""

    async def members(self, channel_id: str, *, after_user_id: str = "", limit: int = 500) -> list[Member]:
        """Members by rising user id after the given one, with their watermarks."""

    async def conversations(
        self, user_id: str, *, cursor: str | None, limit: int, archived: bool
    ) -> ConversationPage:
        """Newest activity first (pinned are not sorted apart: that is the client's view). `cursor` is what the
        page before gave; a bad one raises ChatError(INVALID_FIELD)."""

    async def conversation_prefs(
        self,
        channel_id: str,
        user_id: str,
        *,
        muted_until: int | None,
        pinned: bool | None,
        archived: bool | None,
    ) -> ConversationPrefs | None:
        """Change what is not None; the state after it, or None if not a member."""

    async def put_watermarks(self, watermarks: Sequence[Watermark]) -> list[WatermarkState | None]:
        """Move each forward (never back, never past the head); None where the person is not a member."""

    async def unread(self, user_id: str, channel_ids: Sequence[str]) -> dict[str, int]: ...
