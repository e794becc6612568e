"""The tables and indexes.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    Text,
    UniqueConstraint,
    false,
    text,
)

revision = "0001"
down_revision = None

_text = Text().with_variant(Text(collation="C"), "postgresql")


def _id(name: str, *arguments: ForeignKey, primary_key: bool = False) -> Column[str]:
    return Column(name, _text, *arguments, primary_key=primary_key, nullable=False)


def _number(name: str, default: int | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=None if default is None else str(default))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


def upgrade() -> None:
    _of_channels()
    _of_what_follows_from_events()
    _of_people()


def _of_channels() -> None:
    op.create_table(
        "schema_version",
        Column("one", Integer, CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
        Column("version", Integer, nullable=False),
    )
    op.create_table(
        "channels",
        _id("channel_id", primary_key=True),
        Column("kind", _text, CheckConstraint("kind IN ('direct', 'group')"), nullable=False),
        Column("name", _text, nullable=False),
        _flag("history_from_start"),
        _number("created_at"),
        _number("head_seq", 0),
        _number("head_message_id", 0),
        _number("head_messages", 0),
        _number("members_seq", 0),
        _number("listed_seq", 0),
        _number("member_count", 0),
        CheckConstraint("head_seq >= 0 AND member_count >= 0"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 80},
    )
    op.create_table(
        "events",
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
        Column("edited_text", _text),
        Column("edited_at", BigInteger),
        Column("edit_seq", BigInteger),
        Column("deleted_seq", BigInteger),
        UniqueConstraint("channel_id", "sender_id", "client_msg_id", name="events_sent"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "events_listed",
        "events",
        ["channel_id", "message_id"],
        unique=True,
        sqlite_where=text("listed"),
        postgresql_where=text("listed"),
    )


def _of_what_follows_from_events() -> None:
    op.create_table(
        "edits",
        _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
        Column("target_id", BigInteger, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "memberships",
        _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
        _id("user_id", primary_key=True),
        Column("role", _text, CheckConstraint("role IN ('owner', 'admin', 'member')"), nullable=False),
        _number("joined_seq"),
        _number("from_seq"),
        _number("read_seq", 0),
        _number("delivered_seq", 0),
        _number("read_messages", 0),
        _number("muted_until", 0),
        _flag("pinned"),
        _flag("archived"),
        CheckConstraint("read_seq >= 0 AND delivered_seq >= read_seq AND from_seq >= 0"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 80},
    )
    op.create_index("memberships_of_user", "memberships", ["user_id", "archived", "channel_id"])
    op.create_table(
        "bans",
        _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
        _id("user_id", primary_key=True),
        _number("seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reactions",
        _id("channel_id", ForeignKey("channels.channel_id"), primary_key=True),
        Column("message_id", BigInteger, primary_key=True, autoincrement=False),
        _id("emoji", primary_key=True),
        _id("user_id", primary_key=True),
        _number("seq"),
        _number("since_seq"),
        Column("active", Boolean, nullable=False),
        sqlite_with_rowid=False,
    )


def _of_people() -> None:
    op.create_table(
        "users",
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
    op.create_table(
        "subjects",
        _id("issuer", primary_key=True),
        _id("subject", primary_key=True),
        _id("user_id", ForeignKey("users.user_id")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "devices",
        _id("device_id", primary_key=True),
        _id("user_id", ForeignKey("users.user_id")),
        Column("name", _text, nullable=False),
        _number("created_at"),
        _number("last_seen_at"),
        Column("revoked_at", BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("devices_of_user", "devices", ["user_id"])
    op.create_table(
        "refresh_tokens",
        _id("token_hash", primary_key=True),
        _id("user_id", ForeignKey("users.user_id")),
        _id("device_id", ForeignKey("devices.device_id")),
        _number("expires_at"),
        Column("used_at", BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("refresh_tokens_of_device", "refresh_tokens", ["device_id"])
    op.create_index("refresh_tokens_of_user", "refresh_tokens", ["user_id"])
    op.create_table(
        "friends",
        _id("user_id", ForeignKey("users.user_id"), primary_key=True),
        _id("other_id", ForeignKey("users.user_id"), primary_key=True),
        Column(
            "state", _text, CheckConstraint("state IN ('requested', 'pending', 'friends')"), nullable=False
        ),
        _number("since"),
        CheckConstraint("user_id <> other_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blocks",
        _id("user_id", ForeignKey("users.user_id"), primary_key=True),
        _id("other_id", ForeignKey("users.user_id"), primary_key=True),
        _number("since"),
        CheckConstraint("user_id <> other_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "user_settings",
        _id("user_id", ForeignKey("users.user_id"), primary_key=True),
        _number("version"),
        Column("body", _text, nullable=False),
        sqlite_with_rowid=False,
    )
