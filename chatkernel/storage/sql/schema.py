"""The tables, with their constraints and the indexes that the reads need, as they are now.

They are made and changed by the revisions in `migrations/`, which also have the triggers; a test holds the two equal.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

SCHEMA_VERSION = 3
"""The number of the last revision in `migrations/`; an adapter refuses a store of a later version."""

HOT_FILL = {"fillfactor": 80}
"""On PostgreSQL, pages of tables whose rows change all the time keep room for the rows' next versions, so that no
index has to learn of them."""

metadata = MetaData()
# By code point on every database: ids are compared, and a page's order is the cursor's.
_text = Text().with_variant(Text(collation="C"), "postgresql")

schema_version = Table(
    "schema_version",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)


def _id(name: str, *arguments: ForeignKey, primary_key: bool = False) -> Column[str]:
    return Column(name, _text, *arguments, primary_key=primary_key, nullable=False)


def _number(name: str, default: int | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=None if default is None else str(default))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


# --- by channel -------------------------------------------------------------------------------------------

channels = Table(
    "channels",
    metadata,
    _id("channel_id", primary_key=True),
    Column("kind", _text, CheckConstraint("kind IN ('direct', 'group')"), nullable=False),
    Column("name", _text, nullable=False),
    _flag("history_from_start"),
    _number("created_at"),
    # The head is written in the transaction of the events, so it is the log's own.
    _number("head_seq", 0),
    _number("head_message_id", 0),
    _number("head_messages", 0),
    _number("members_seq", 0),
    # Of the last message, for lists of conversations; 0 while there is none.
    _number("message_seq", 0),
    _number("member_count", 0),
    CheckConstraint("head_seq >= 0 AND member_count >= 0"),
    sqlite_with_rowid=False,
    postgresql_with=HOT_FILL,
)

# Measured: without a rowid an insert costs about a tenth more, and a page of a channel is read from
# neighbouring rows instead of from all over the file. No foreign key to `channels`: the guarded update of the
# head, in the same transaction, already refuses events of a channel that is not there.
events = Table(
    "events",
    metadata,
    _id("channel_id", primary_key=True),
    Column("seq", BigInteger, CheckConstraint("seq >= 1"), primary_key=True, autoincrement=False),
    _number("message_id"),
    Column("kind", _text, nullable=False),
    _id("sender_id"),
    _id("client_msg_id"),
    _number("created_at"),
    _number("messages_before"),
    _number("members_seq"),
    Column("listed", Boolean, nullable=False),
    Column("text", _text),
    Column("metadata", _text),
    Column("reply_to", BigInteger),
    Column("target_id", BigInteger),
    Column("extra", _text),
    # The present state of a message that a later event changed.
    Column("edited_text", _text),
    Column("edited_at", BigInteger),
    Column("edit_seq", BigInteger),
    Column("deleted_seq", BigInteger),
    UniqueConstraint("channel_id", "sender_id", "client_msg_id", name="events_sent"),
    sqlite_with_rowid=False,
)
# Ids rise with seq, so this one index finds a message and reads the pages of history, which leave edits, deletes
# and reactions out. A second one by seq would cost a sixth of each insert.
Index(
    "events_listed",
    events.c.channel_id,
    events.c.message_id,
    unique=True,
    sqlite_where=text("listed"),
    postgresql_where=text("listed"),
)

# Which events hold texts of a message, for when it is deleted. Not a partial index of `events`: SQLite without
# statistics would rather read the whole channel than use one.
edits = Table(
    "edits",
    metadata,
    _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
    Column("target_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

memberships = Table(
    "memberships",
    metadata,
    _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
    _id("user_id", primary_key=True),
    Column("role", _text, CheckConstraint("role IN ('owner', 'admin', 'member')"), nullable=False),
    _number("joined_seq"),
    _number("from_seq"),
    _number("read_seq", 0),
    _number("delivered_seq", 0),
    # Messages that are not unread: up to read_seq, or up to from_seq where nothing was read yet.
    _number("read_messages", 0),
    _number("muted_until", 0),
    _flag("pinned"),
    _flag("archived"),
    CheckConstraint("read_seq >= 0 AND delivered_seq >= read_seq AND from_seq >= 0"),
    sqlite_with_rowid=False,
    postgresql_with=HOT_FILL,
)
Index("memberships_of_user", memberships.c.user_id, memberships.c.archived, memberships.c.channel_id)

bans = Table(
    "bans",
    metadata,
    _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
    _id("user_id", primary_key=True),
    _number("seq"),
    sqlite_with_rowid=False,
)

reactions = Table(
    "reactions",
    metadata,
    _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    _id("emoji", primary_key=True),
    _id("user_id", primary_key=True),
    _number("seq"),
    # When it was set: the order in which reactions are shown.
    _number("since_seq"),
    Column("active", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# --- by person --------------------------------------------------------------------------------------------

users = Table(
    "users",
    metadata,
    _id("user_id", primary_key=True),
    Column("username", _text, nullable=False),
    Column("username_key", _text, nullable=False, unique=True),
    Column("display_name", _text, nullable=False),
    Column("about", _text, nullable=False, server_default=""),
    Column("avatar_url", _text, nullable=False, server_default=""),
    _number("created_at"),
    _flag("suspended"),
    Column("last_active_at", BigInteger),
    Column("password_hash", _text, nullable=False),
    sqlite_with_rowid=False,
)

subjects = Table(
    "subjects",
    metadata,
    _id("issuer", primary_key=True),
    _id("subject", primary_key=True),
    _id("user_id", ForeignKey("users.user_id")),
    sqlite_with_rowid=False,
)

devices = Table(
    "devices",
    metadata,
    _id("device_id", primary_key=True),
    _id("user_id", ForeignKey("users.user_id")),
    Column("name", _text, nullable=False),
    _number("created_at"),
    _number("last_seen_at"),
    Column("revoked_at", BigInteger),
    sqlite_with_rowid=False,
)
Index("devices_of_user", devices.c.user_id)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    _id("token_hash", primary_key=True),
    _id("user_id", ForeignKey("users.user_id")),
    _id("device_id", ForeignKey("devices.device_id")),
    _number("expires_at"),
    Column("used_at", BigInteger),
    sqlite_with_rowid=False,
)
Index("refresh_tokens_of_device", refresh_tokens.c.device_id)
Index("refresh_tokens_of_user", refresh_tokens.c.user_id)

friends = Table(
    "friends",
    metadata,
    _id("user_id", ForeignKey("users.user_id"), primary_key=True),
    _id("other_id", ForeignKey("users.user_id"), primary_key=True),
    Column("state", _text, CheckConstraint("state IN ('requested', 'pending', 'friends')"), nullable=False),
    _number("since"),
    CheckConstraint("user_id <> other_id"),
    sqlite_with_rowid=False,
)

blocks = Table(
    "blocks",
    metadata,
    _id("user_id", ForeignKey("users.user_id"), primary_key=True),
    _id("other_id", ForeignKey("users.user_id"), primary_key=True),
    _number("since"),
    CheckConstraint("user_id <> other_id"),
    sqlite_with_rowid=False,
)

user_settings = Table(
    "user_settings",
    metadata,
    _id("user_id", ForeignKey("users.user_id"), primary_key=True),
    _number("version"),
    Column("body", _text, nullable=False),
    sqlite_with_rowid=False,
)
