"""The wire: every frame that a client and a server exchange, typed once.

The same structs are `chat.v1.json` (text) and `chat.v1.msgpack` (binary). AsyncAPI, OpenAPI and the docs are
generated from them. `type` is the tag. Times are Unix milliseconds. Unknown fields are ignored.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from chatkernel.message_ids import LATEST_MS, MAX_MESSAGE_ID

SUBPROTOCOL_JSON = "chat.v1.json"
SUBPROTOCOL_MSGPACK = "chat.v1.msgpack"

WATCHES_MAX = 1000
USERNAME_MAX_CHARS = 64
PASSWORD_MAX_CHARS = 1024
PROFILE_FIELD_MAX_CHARS = 4096
"""What the types allow at most: the settings of these limits are bounded by it."""

FrameId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, description="Chosen by the client")]
ChannelRef: TypeAlias = Annotated[str, Meta(min_length=1, max_length=80)]
UserRef: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
ClientMsgId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="Unique per sender and channel: a resend with it is no duplicate",
    ),
]
SeqNo: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_MESSAGE_ID)]
MsgNo: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_MESSAGE_ID)]
Emoji: TypeAlias = Annotated[str, Meta(min_length=1, max_length=32)]


class Position(Struct, frozen=True):
    """A cursor that says whose log it is of, too."""

    seq: SeqNo
    cur_max_message_id: MsgNo = 0
    """The `message_id` of the event at `seq`; 0 when not known."""


Cursor: TypeAlias = SeqNo | Position
Cursors: TypeAlias = dict[ChannelRef, Cursor]


class EventKind(StrEnum):
    """What happened in a channel."""

    CREATED = "created"
    MESSAGE = "message"
    EDIT = "edit"
    DELETE = "delete"
    REACTION = "reaction"
    JOIN = "join"
    LEAVE = "leave"
    BAN = "ban"
    ROLE = "role"
    RENAME = "rename"
    RETENTION = "retention"
    ERASE = "erase"
    """Everything that `users` have written in the channel up to here is deleted: their messages, edits, reactions."""


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


MEMBERSHIP_KINDS = frozenset(
    {EventKind.CREATED, EventKind.JOIN, EventKind.LEAVE, EventKind.BAN, EventKind.ROLE}
)
"""Events that change who is in the channel or what they may do: they move `members_seq`."""

CHANGE_KINDS = frozenset({EventKind.EDIT, EventKind.DELETE, EventKind.REACTION, EventKind.ERASE})
"""Events that change earlier messages and are folded into them in history."""


class Event(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="event"):
    """One entry of a channel's log, as stored and as sent. Which fields are there depends on `kind`."""

    channel_id: str
    seq: int
    message_id: int
    kind: EventKind
    sender_id: str
    client_msg_id: str
    created_at: int
    messages_before: int = 0
    """Messages in the channel before this event: unread counts are differences of it."""
    members_seq: int = 0
    """The seq of the last event of MEMBERSHIP_KINDS up to and including this one."""
    text: str | None = None
    reply_to: int | None = None
    metadata: dict[str, Any] | None = None
    target_id: int | None = None
    """The message that an edit, delete or reaction is about."""
    emoji: str | None = None
    on: bool | None = None
    """For a reaction: set or taken back."""
    users: list[str] | None = None
    """For CREATED, JOIN, LEAVE, BAN, ROLE and ERASE: whom it concerns. For CREATED all members, the creator first."""
    role: Role | None = None
    name: str | None = None
    retention_s: int | None = None
    """For RETENTION: how long what is in the channel is kept; 0: as long as the cluster keeps it."""


class HistoryItem(Struct, frozen=True, omit_defaults=True):
    """An event of history with the present state of the message in it. A deleted message has no text."""

    event: Event
    edited_at: int | None = None
    deleted: bool = False
    reactions: dict[str, list[str]] | None = None
    """Emoji to user ids, in the order of reacting."""


# --- client to server -------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    """The first frame. `cursors` are the channels this device already knows, each up to its `seq`."""

    id: FrameId
    ticket: Annotated[str, Meta(min_length=1, max_length=2048)]
    cursors: Cursors = {}
    client: Annotated[str, Meta(max_length=128)] = ""


class Send(Struct, frozen=True, tag_field="type", tag="send"):
    id: FrameId
    channel_id: ChannelRef
    client_msg_id: ClientMsgId
    text: str
    reply_to: MsgNo | None = None
    metadata: dict[str, Any] | None = None


class Edit(Struct, frozen=True, tag_field="type", tag="edit"):
    id: FrameId
    channel_id: ChannelRef
    client_msg_id: ClientMsgId
    message_id: MsgNo
    text: str


class Delete(Struct, frozen=True, tag_field="type", tag="delete"):
    id: FrameId
    channel_id: ChannelRef
    client_msg_id: ClientMsgId
    message_id: MsgNo


class React(Struct, frozen=True, tag_field="type", tag="react"):
    id: FrameId
    channel_id: ChannelRef
    client_msg_id: ClientMsgId
    message_id: MsgNo
    emoji: Emoji
    on: bool = True


class Read(Struct, frozen=True, tag_field="type", tag="read"):
    """I have read up to `seq` (a watermark: it never goes back)."""

    id: FrameId
    channel_id: ChannelRef
    seq: SeqNo


class Delivered(Struct, frozen=True, tag_field="type", tag="delivered"):
    """A device of mine has everything up to `seq` (a watermark)."""

    id: FrameId
    channel_id: ChannelRef
    seq: SeqNo


class Typing(Struct, frozen=True, tag_field="type", tag="typing"):
    id: FrameId
    channel_id: ChannelRef
    on: bool = True


class Sync(Struct, frozen=True, tag_field="type", tag="sync"):
    """What is new after these cursors: answered by `page` frames (kind `sync`) and then the `ack`."""

    id: FrameId
    cursors: Cursors


class History(Struct, frozen=True, tag_field="type", tag="history"):
    """A page of history, answered by one `page` (kind `history`) with this `id`, then the `ack`.

    At most one of `before`, `after` (a seq), `around` (a message id) and `at` (Unix ms); none means newest.
    """

    id: FrameId
    channel_id: ChannelRef
    before: SeqNo | None = None
    after: SeqNo | None = None
    around: MsgNo | None = None
    at: Annotated[int, Meta(ge=0, le=LATEST_MS)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class PresenceWatch(Struct, frozen=True, tag_field="type", tag="presence.watch"):
    """Answered by a `presence` frame with the present state, then the `ack`; changes follow while connected.

    Each call replaces what was watched before. `channel_id` reads the members of a large group once.
    """

    id: FrameId
    user_ids: Annotated[list[UserRef], Meta(max_length=WATCHES_MAX)] = []
    channel_id: ChannelRef | None = None


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    id: FrameId


ClientFrame: TypeAlias = (
    Hello | Send | Edit | Delete | React | Read | Delivered | Typing | Sync | History | PresenceWatch | Ping
)

# --- server to client -------------------------------------------------------------------------------------


class Limits(Struct, frozen=True):
    """The limits in force, told in `welcome`. Each is a setting (`spec.limits`)."""

    frame_max_bytes: int = 256 * 1024
    text_max_bytes: int = 16 * 1024
    metadata_max_bytes: int = 2 * 1024
    nesting_max_depth: int = 8
    sends_per_s: float = 50.0
    sends_burst: int = 200
    open_requests_max: int = 256
    channels_per_user_max: int = 10_000
    group_members_max: int = 500
    page_max_items: int = 200
    cursors_max: int = 5_000
    watches_max: int = 200
    name_max_chars: int = 80
    outbox_max_bytes: int = 1024 * 1024
    head_max_bytes: int = 64 * 1024
    head_timeout_s: float = 10.0
    body_max_bytes: int = 256 * 1024
    body_timeout_s: float = 15.0
    keep_alive_s: int = 75
    friends_max: int = 2_000
    devices_max: int = 50
    username_max_chars: int = 32
    password_min_chars: int = 8
    password_max_chars: int = 256
    about_max_chars: int = 500
    avatar_url_max_chars: int = 512
    settings_max_bytes: int = 16 * 1024
    reactions_per_message_max: int = 100
    sockets_per_device_max: int = 8
    reads_at_once_max: int = 4
    waiting_max_bytes: int = 64 * 1024 * 1024
    export_max_bytes: int = 1024 * 1024 * 1024
    requests_at_once_max: int = 2_000


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    id: str
    session_id: str
    user_id: str
    device_id: str
    pod: str
    server_time: int
    heartbeat_interval_s: float
    offline_after_s: float
    limits: Limits


class Ack(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="ack"):
    """The one positive answer. For `send`, `edit`, `delete` and `react` it says where the event stands."""

    id: str
    channel_id: str | None = None
    seq: int | None = None
    message_id: int | None = None
    created_at: int | None = None
    duplicate: bool = False


class Error(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="error"):
    id: str | None
    code: str
    detail: str
    retryable: bool
    field: str | None = None
    limit: int | None = None
    retry_after_ms: int | None = None


class ReceiptEntry(Struct, frozen=True, array_like=True):
    """[user id, read up to seq, delivered up to seq]; 0: not moved."""

    user_id: str
    read_seq: int
    delivered_seq: int


class Receipt(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="receipt"):
    """Watermarks that moved, coalesced per channel. `unread` is there for the reader's own devices."""

    channel_id: str
    entries: list[ReceiptEntry]
    unread: int | None = None


class TypingNotice(Struct, frozen=True, tag_field="type", tag="typing"):
    channel_id: str
    user_id: str
    on: bool


class PresenceState(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class PresenceEntry(Struct, frozen=True, omit_defaults=True):
    user_id: str
    state: PresenceState
    last_active_at: int | None = None


class Presence(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="presence"):
    entries: list[PresenceEntry]
    id: str | None = None


class ChannelHead(Struct, frozen=True, omit_defaults=True):
    """Where a channel stands: the client's cursor may be set to `seq` after the page that has this is applied."""

    seq: int
    message_id: int = 0
    unread: int | None = None
    first_seq: int = 0
    """What is before this seq is not (or no longer) there to see: forget what is kept of it. 0: nothing is hidden."""


class Page(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="page"):
    """`sync`: `events` in order of seq per channel, and `heads` of channels that are complete up to there.

    `history`: `items` in rising order of seq; `more_before` and `more_after` say whether there is more.
    `done` on the last page of an answer. `id` is the asking frame's.
    """

    id: str
    kind: str
    events: list[Event] = []
    heads: dict[str, ChannelHead] = {}
    left: list[str] = []
    """For sync: channels among the cursors that the device's user is no longer in."""
    channel_id: str | None = None
    items: list[HistoryItem] = []
    more_before: bool = False
    more_after: bool = False
    done: bool = True


class Seat(Struct, frozen=True):
    """A place on a chat pod: connect to `url` and say `hello` with `ticket` before `expires_at`."""

    pod: str
    url: str
    ticket: str
    expires_at: int


class Seats(Struct, frozen=True):
    """Discovery's answer: the best seat, and others to try in order if it cannot be reached."""

    best: Seat
    alternatives: list[Seat]


class Migrate(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="migrate"):
    """This pod is going: take a new seat, connect there, then close this socket. It closes at `deadline`."""

    reason: str
    deadline: int


class Resync(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="resync"):
    """The server may have missed something: `sync` these channels, or all when null.

    With `reset` your cursor of these is of another log than the server's: forget it, and what you keep of them. Their
    `heads` follow in a page, as of channels that are new to you.
    """

    channel_ids: list[str] | None = None
    reset: bool = False


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """`head_sum` is the sum over the session's live channels of the last seq sent: a client whose own sum of
    cursors over all its channels differs has missed something and asks for a `sync`."""

    id: str
    server_time: int
    head_sum: int
    channels: int


class NoticeTopic(StrEnum):
    """What changed of the person's own things: the client reads it again by HTTP."""

    PROFILE = "profile"
    SETTINGS = "settings"
    DEVICES = "devices"
    FRIENDS = "friends"
    CONVERSATION = "conversation"
    EXPORT = "export"


class Notice(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="notice"):
    topic: NoticeTopic
    channel_id: str | None = None
    user_id: str | None = None


ServerFrame: TypeAlias = (
    Welcome
    | Ack
    | Error
    | Event
    | Receipt
    | TypingNotice
    | Presence
    | Page
    | Migrate
    | Resync
    | Pong
    | Notice
)

_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()
_client_json: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_client_msgpack: msgspec.msgpack.Decoder[ClientFrame] = msgspec.msgpack.Decoder(ClientFrame)
_server_json: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)
_server_msgpack: msgspec.msgpack.Decoder[ServerFrame] = msgspec.msgpack.Decoder(ServerFrame)


def encode_json(frame: Struct) -> bytes:
    return _json_encoder.encode(frame)


def encode_msgpack(frame: Struct) -> bytes:
    return _msgpack_encoder.encode(frame)


def decode_client_json(data: bytes | str) -> ClientFrame:
    """Raises msgspec.DecodeError (malformed) or msgspec.ValidationError (wrong field, unknown type)."""
    return _client_json.decode(data)


def decode_client_msgpack(data: bytes) -> ClientFrame:
    """As `decode_client_json`."""
    return _client_msgpack.decode(data)


def decode_server_json(data: bytes | str) -> ServerFrame:
    return _server_json.decode(data)


def decode_server_msgpack(data: bytes) -> ServerFrame:
    return _server_msgpack.decode(data)
