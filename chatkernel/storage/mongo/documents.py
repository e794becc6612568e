"""Events as documents, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from chatkernel.protocol import CHANGE_KINDS, Event, EventKind, HistoryItem, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind, Head

Document: TypeAlias = dict[str, Any]

_OPTIONAL = ("text", "reply_to", "target_id", "emoji", "on", "users", "name", "retention_s")
_STATE = ("edited_text", "edited_at", "deleted_seq")
"""The present state of a message that a later event changed."""

EVENT_FIELDS: dict[str, bool | int] = {"_id": 0, **dict.fromkeys(("edit_seqs", "edit_seq"), False)}
"""The projection for reading events: everything but what only writers need."""

_metadata = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def document_of(event: Event, channel: ChannelInfo | None) -> Document:
    """The event, with what its channel is if it begins one. Metadata is JSON text: its keys may hold what the
    store gives a meaning to."""
    made: Document = {
        "channel_id": event.channel_id,
        "seq": event.seq,
        "message_id": event.message_id,
        "kind": event.kind.value,
        "sender_id": event.sender_id,
        "client_msg_id": event.client_msg_id,
        "created_at": event.created_at,
        "messages_before": event.messages_before,
        "members_seq": event.members_seq,
        "listed": event.kind not in CHANGE_KINDS,
    }
    for field in _OPTIONAL:
        value = getattr(event, field)
        if value is not None:
            made[field] = value
    if event.metadata is not None:
        made["metadata"] = _encode(event.metadata).decode()
    if event.role is not None:
        made["role"] = event.role.value
    if channel is not None:
        made["channel"] = {
            "kind": channel.kind.value,
            "name": channel.name,
            "history_from_start": channel.history_from_start,
        }
    return made


def event_of(found: Document) -> Event:
    """As it was appended; a deleted message has no text."""
    metadata, role = found.get("metadata"), found.get("role")
    return Event(
        found["channel_id"],
        found["seq"],
        found["message_id"],
        EventKind(found["kind"]),
        found["sender_id"],
        found["client_msg_id"],
        found["created_at"],
        found["messages_before"],
        found["members_seq"],
        found.get("text"),
        found.get("reply_to"),
        None if metadata is None else _metadata.decode(metadata),
        found.get("target_id"),
        found.get("emoji"),
        found.get("on"),
        found.get("users"),
        None if role is None else Role(role),
        found.get("name"),
        found.get("retention_s"),
    )


def channel_of(found: Document) -> ChannelInfo | None:
    """Of a CREATED event."""
    info = found.get("channel")
    if info is None:
        return None
    return ChannelInfo(
        found["channel_id"], ChannelKind(info["kind"]), info["name"], info["history_from_start"]
    )


def item_of(found: Document, reactions: dict[str, list[str]] | None) -> HistoryItem:
    """The message as it is now."""
    event, deleted = event_of(found), found.get("deleted_seq") is not None
    edited_at = None if deleted else found.get("edited_at")
    if edited_at is not None:
        event = msgspec.structs.replace(event, text=found.get("edited_text"))
    return HistoryItem(event, edited_at, deleted, reactions)


def head_after(event: Event) -> Head:
    """The head that this event is."""
    messages = event.messages_before + (event.kind is EventKind.MESSAGE)
    return Head(event.seq, event.message_id, messages, event.members_seq)


def head_of(found: Document) -> Head:
    """The head that the event of this document is."""
    messages = found["messages_before"] + (found["kind"] == EventKind.MESSAGE.value)
    return Head(found["seq"], found["message_id"], messages, found["members_seq"])


def fresh(channel: ChannelInfo) -> Document:
    """The document of a channel of which nothing is applied yet."""
    return {
        "kind": channel.kind.value,
        "name": channel.name,
        "history_from_start": channel.history_from_start,
        "created_at": 0,
        "members_seq": 0,
        "member_count": 0,
        "head_seq": 0,
        "head_message_id": 0,
        "head_messages": 0,
        "message_seq": 0,
    }
