"""What crosses the storage ports: plain frozen structs, no driver objects."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from chatkernel.protocol import Event, HistoryItem, Role


class ChannelKind(StrEnum):
    DIRECT = "direct"
    GROUP = "group"


class Head(Struct, frozen=True):
    """The end of a channel's log: what the next event is built on. All zero: an empty log."""

    seq: int = 0
    message_id: int = 0
    messages: int = 0
    """Messages up to and including the head (the next event's `messages_before`)."""
    members_seq: int = 0


class ChannelInfo(Struct, frozen=True):
    """What a CREATED event cannot be understood without: stored with it, atomically where the store can."""

    channel_id: str
    kind: ChannelKind
    name: str
    history_from_start: bool
    """Whether a member added later sees what was before."""


class Run(Struct, frozen=True):
    """Consecutive events of one channel, stored in order, none without those before it. `channel` only with a CREATED
    first event."""

    channel_id: str
    events: tuple[Event, ...]
    channel: ChannelInfo | None = None


class InsertOutcome(StrEnum):
    STORED = "stored"
    REFUSED = "refused"
    """A seq or a (sender, client_msg_id) of the run was taken: what follows it is not stored. Re-read and decide."""


class SendKey(Struct, frozen=True):
    """What makes a resend no duplicate."""

    channel_id: str
    sender_id: str
    client_msg_id: str


class Grant(Struct, frozen=True):
    """What a person may do in a channel, as of `members_seq`."""

    user_id: str
    channel_id: str
    role: Role
    from_seq: int
    """Events up to and including this seq are not theirs to see: from before their time, or removed by retention."""
    members_seq: int
    kind: ChannelKind
    member_count: int
    joined_seq: int
    """The event that brought them in."""


class Absence(StrEnum):
    """Why there is no grant."""

    NOT_MEMBER = "not_member"
    BANNED = "banned"


class EventRange(Struct, frozen=True):
    """Events of a channel with after_seq < seq (≤ upto_seq if given), rising, at most `limit`."""

    channel_id: str
    after_seq: int
    limit: int
    upto_seq: int | None = None


class PageQuery(Struct, frozen=True):
    """History that `from_seq` allows. At most one of before/after (seq), around (message id), at (ms)."""

    channel_id: str
    from_seq: int
    limit: int
    before: int | None = None
    after: int | None = None
    around: int | None = None
    at: int | None = None


class HistoryPage(Struct, frozen=True):
    """Items rising by seq. History holds all kinds but EDIT, DELETE and REACTION, which are folded in."""

    items: list[HistoryItem]
    more_before: bool
    more_after: bool


class Watermark(Struct, frozen=True):
    """How far a person has read and has been delivered to; moves only forward (0: not moved)."""

    channel_id: str
    user_id: str
    read_seq: int = 0
    delivered_seq: int = 0


class WatermarkState(Struct, frozen=True):
    """A watermark after it was put, with the unread count that follows from it."""

    channel_id: str
    user_id: str
    read_seq: int
    delivered_seq: int
    unread: int
    moved: bool


class Member(Struct, frozen=True):
    user_id: str
    role: Role
    joined_seq: int
    read_seq: int = 0
    delivered_seq: int = 0


class ChannelState(Struct, frozen=True):
    """A channel as its members see it."""

    channel_id: str
    kind: ChannelKind
    name: str
    history_from_start: bool
    created_at: int
    head: Head
    member_count: int
    retention_s: int = 0
    """The channel's own setting; 0: as long as the cluster keeps it."""
    first_seq: int = 1
    """What was before this seq has been removed by retention."""


class ConversationPrefs(Struct, frozen=True):
    """A person's own settings of a conversation. `muted_until`: Unix ms, 0 is not muted."""

    muted_until: int = 0
    pinned: bool = False
    archived: bool = False


OTHERS_SHOWN = 4
"""Other members named in a conversation, for a title and pictures."""


class Conversation(Struct, frozen=True, omit_defaults=True):
    """A line of "my conversations". `members` are the first few others, for a title and pictures."""

    channel_id: str
    kind: ChannelKind
    name: str
    activity_id: int
    """The head's message id: newest activity first sorts by it, descending."""
    seq: int
    unread: int
    read_seq: int
    role: Role
    member_count: int
    members: list[str]
    prefs: ConversationPrefs
    last_message: HistoryItem | None = None
    """The last message, whatever was done since; none if there is none yet, or none that the person may see."""


class ConversationPage(Struct, frozen=True, omit_defaults=True):
    conversations: list[Conversation]
    next_cursor: str | None = None


# --- directory --------------------------------------------------------------------------------------------


class User(Struct, frozen=True, omit_defaults=True):
    """A person's public profile."""

    user_id: str
    username: str
    display_name: str
    created_at: int
    about: str = ""
    avatar_url: str = ""
    suspended: bool = False
    last_active_at: int | None = None


class Credentials(Struct, frozen=True):
    user_id: str
    password_hash: str
    """Argon2id in PHC form; empty for people of an issuer of their own."""
    suspended: bool


class Device(Struct, frozen=True, omit_defaults=True):
    """A device is also a log-in: revoking it ends its tokens and closes its sockets."""

    device_id: str
    user_id: str
    name: str
    created_at: int
    last_seen_at: int
    revoked_at: int | None = None


class RefreshOutcome(StrEnum):
    ROTATED = "rotated"
    REUSED = "reused"
    """The token was used before: the device is revoked by the same operation."""
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


class RefreshResult(Struct, frozen=True):
    outcome: RefreshOutcome
    user_id: str | None = None
    device_id: str | None = None


class FriendState(StrEnum):
    REQUESTED = "requested"
    """I asked."""
    PENDING = "pending"
    """They asked; mine to accept."""
    FRIENDS = "friends"
    BLOCKED = "blocked"
    """I blocked them."""


class Friend(Struct, frozen=True):
    user_id: str
    state: FriendState
    since: int


class FriendPage(Struct, frozen=True, omit_defaults=True):
    """Friends, requests of mine, requests to me, and whom I blocked, newest first."""

    friends: list[Friend]
    next_cursor: str | None = None


class FriendChange(Struct, frozen=True):
    """How the two stand after an action, as who acted sees it (None: no relation), and for whom that is news."""

    state: FriendState | None
    changed: bool
    other_changed: bool


class FriendAction(StrEnum):
    REQUEST = "request"
    ACCEPT = "accept"
    REMOVE = "remove"
    BLOCK = "block"
    UNBLOCK = "unblock"


class UserSettings(Struct, frozen=True):
    """Free settings of a person, synced between devices: a JSON object of at most 16 KiB, with its version."""

    values: dict[str, Any]
    version: int


# --- retention, erasure, export ---------------------------------------------------------------------------


class Keeping(Struct, frozen=True):
    """A channel as retention looks at it."""

    channel_id: str
    retention_s: int
    """Its own setting, 0 where it has none."""


class Expired(Struct, frozen=True):
    """What one batch of retention did: events up to `floor_seq` are gone."""

    floor_seq: int
    removed: int
    more: bool
    """Whether there may be more to remove."""


class Blanked(Struct, frozen=True):
    """One batch of making somebody's messages in a channel tombstones. `upto`: where the next one begins."""

    upto: str
    changed: int
    more: bool


class JobKind(StrEnum):
    RETENTION = "retention"
    ERASE = "erase"
    EXPORT = "export"


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(Struct, frozen=True):
    """Work in the background. There is one at most of a kind and subject (a user id; of retention `cluster`)."""

    job_id: str
    kind: JobKind
    subject: str
    created_at: int
    state: JobState = JobState.WAITING
    updated_at: int = 0
    run_at: int = 0
    """Not before this (Unix ms)."""
    lease_until: int = 0
    """Whoever claimed it is believed to work on it until then."""
    attempt: int = 0
    """Counts the claims: what a claim of before writes is refused."""
    failures: int = 0
    """In a row."""
    progress: int = 0
    """What was done so far: events removed or blanked, bytes exported."""
    cursor: str = ""
    """Where the next batch begins: JSON that only the kind's own code reads."""
    error: str = ""
    """The code of the last failure; empty after a batch that worked."""
    expires_at: int = 0
    """When a job that has ended is forgotten, with what it made. 0: never."""
