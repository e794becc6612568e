"""How events change what history shows: the same folding that the server does, for items that we have
cached."""

from __future__ import annotations

import msgspec

from chatkernel.protocol import CHANGE_KINDS, Event, EventKind, HistoryItem


def is_item(event: Event) -> bool:
    """Whether the event is an item of history of its own (edits, deletes and reactions are folded into
    others)."""
    return event.kind not in CHANGE_KINDS


def fold(item: HistoryItem, change: Event) -> HistoryItem:
    """The item after an edit, delete or reaction of it, or after somebody's erasure. Folding the same change twice
    changes nothing."""
    if change.kind is EventKind.ERASE:
        return _erase(item, frozenset(change.users or ()))
    if change.kind is EventKind.EDIT and not item.deleted:
        event = msgspec.structs.replace(item.event, text=change.text)
        return msgspec.structs.replace(item, event=event, edited_at=change.created_at)
    if change.kind is EventKind.DELETE:
        event = msgspec.structs.replace(item.event, text=None, metadata=None)
        return msgspec.structs.replace(item, event=event, deleted=True, reactions=None)
    if change.kind is EventKind.REACTION and change.emoji and not item.deleted:
        return msgspec.structs.replace(item, reactions=_react(item, change.emoji, change))
    return item


def _erase(item: HistoryItem, users: frozenset[str]) -> HistoryItem:
    """Without what these people wrote and how they reacted."""
    if item.event.kind is EventKind.MESSAGE and item.event.sender_id in users:
        event = msgspec.structs.replace(item.event, text=None, metadata=None)
        return msgspec.structs.replace(item, event=event, edited_at=None, deleted=True, reactions=None)
    reactions = {
        emoji: [user for user in given if user not in users]
        for emoji, given in (item.reactions or {}).items()
    }
    left = {emoji: given for emoji, given in reactions.items() if given} or None
    return item if left == item.reactions else msgspec.structs.replace(item, reactions=left)


def _react(item: HistoryItem, emoji: str, change: Event) -> dict[str, list[str]] | None:
    reactions = {name: list(users) for name, users in (item.reactions or {}).items()}
    users = reactions.setdefault(emoji, [])
    if change.on is False:
        reactions[emoji] = [user for user in users if user != change.sender_id]
    elif change.sender_id not in users:
        users.append(change.sender_id)
    return {name: users for name, users in reactions.items() if users} or None
