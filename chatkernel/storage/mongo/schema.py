"""The collections: shard keys, indexes, and which reads each index serves. `migrate.py` applies this, and
`docs/storage.md` is generated from it."""

from __future__ import annotations

from dataclasses import dataclass

from pymongo import ASCENDING, IndexModel

SCHEMA_VERSION = 1
"""Raised with every change; an adapter refuses a store of a later version."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    fields: tuple[str, ...]
    serves: str
    unique: bool = False

    @property
    def name(self) -> str:
        return "_".join(self.fields)

    def model(self, name: str = "") -> IndexModel:
        """`name`: another than its own."""
        keys = [(field, ASCENDING) for field in self.fields]
        return IndexModel(keys, name=name or self.name, unique=self.unique)


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    name: str
    shard_key: str
    holds: str
    indexes: tuple[IndexSpec, ...] = ()
    by_id: str = ""
    """What `_id` is, where it is ours."""


COLLECTIONS: tuple[CollectionSpec, ...] = (
    CollectionSpec(
        "events",
        "channel_id",
        "the logs: one document per event, with the present state of a message in it",
        (
            IndexSpec(("channel_id", "seq"), "append (one writer wins), heads, sync", unique=True),
            IndexSpec(("channel_id", "sender_id", "client_msg_id"), "resends, unknown outcomes", unique=True),
            IndexSpec(("channel_id", "listed", "message_id"), "pages of history, jump, by time, one message"),
        ),
    ),
    CollectionSpec("channels", "_id", "what a channel is, and its trailing head", by_id="channel_id"),
    CollectionSpec(
        "memberships",
        "channel_id",
        "who is or was in a channel, their watermarks and their own settings of it",
        (
            IndexSpec(("channel_id", "user_id"), "grants, watermarks", unique=True),
            IndexSpec(("channel_id", "state", "user_id"), "members in pages, their number"),
            IndexSpec(("user_id", "state", "archived"), "a person's channels"),
        ),
    ),
    CollectionSpec(
        "reactions",
        "channel_id",
        "the last word of each person on each emoji at a message",
        (
            IndexSpec(
                ("channel_id", "message_id", "emoji", "user_id"),
                "reactions of a page of messages",
                unique=True,
            ),
        ),
    ),
    CollectionSpec("users", "_id", "accounts and profiles", by_id="user_id"),
    CollectionSpec("claims", "_id", "what is unique among people", by_id="kind and claimed value"),
    CollectionSpec(
        "devices",
        "_id",
        "devices, which are also log-ins",
        (IndexSpec(("user_id", "created_at"), "a person's devices"),),
        by_id="device_id",
    ),
    CollectionSpec(
        "refresh_tokens",
        "_id",
        "refresh tokens, by their digest",
        (IndexSpec(("device_id", "expires_at"), "tokens of a device, expired ones"),),
        by_id="digest",
    ),
    CollectionSpec(
        "pairs",
        "_id",
        "friends, requests and blocks: one document for two people, so that each change is one write",
        (IndexSpec(("people",), "the relations of a person"),),
        by_id="both user ids, the smaller first",
    ),
    CollectionSpec("settings", "_id", "free settings of a person", by_id="user_id"),
)
