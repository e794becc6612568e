"""Events that have no place yet, and the places that they get: what is handed to the appender, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from sys import getsizeof
from typing import Any

import msgspec

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import ChannelInfo, Grant, SendKey

Check = Callable[[Grant], Awaitable[None] | None]


DRAFT_BYTES = 1_500
"""Of a draft without its text: measured, with its keys and what answers it."""
METADATA_BYTES = 8_000
"""Of a metadata object, once it is decoded."""


class Placed(msgspec.Struct, frozen=True):
    """Where an event stands: what an `ack` says."""

    seq: int
    message_id: int
    created_at: int
    kind: EventKind
    target_id: int | None = None


class Draft(msgspec.Struct, eq=False):
    """An event that has no place yet. `check` says what a changed membership means for it."""

    channel_id: str
    sender_id: str
    client_msg_id: str
    kind: EventKind
    members_seq: int
    """As of which membership change the sender was allowed."""
    done: Callable[[Placed | None, ChatError | None, bool], None]
    """Called once: the event's place (and whether this was a resend), or the error."""
    text: str | None = None
    reply_to: int | None = None
    metadata: dict[str, Any] | None = None
    target_id: int | None = None
    emoji: str | None = None
    on: bool | None = None
    users: list[str] | None = None
    role: Role | None = None
    name: str | None = None
    retention_s: int | None = None
    channel: ChannelInfo | None = None
    check: Check | None = None
    """Raises ChatError if the fresh grant does not allow this; None: being a member is enough. It is asked before
    the event is built on a later change of membership, so what else it reads is as of that change or later."""
    key: SendKey = SendKey("", "", "")
    size_bytes: int = 0
    """About what it takes in memory while it waits."""
    answered: bool = False
    tries: int = 0
    """Attempts that did not place it, or of which nobody knows whether they did."""
    deadline_s: float = 0.0
    failure: ChatError | None = None
    """Of the last attempt that the store failed."""

    def __post_init__(self) -> None:
        self.key = SendKey(self.channel_id, self.sender_id, self.client_msg_id)
        self.size_bytes = DRAFT_BYTES + getsizeof(self.text)
        if self.metadata is not None:
            self.size_bytes += METADATA_BYTES

    def answer(self, placed: Placed | None, error: ChatError | None = None, duplicate: bool = False) -> None:
        """Call `done`, the first time; an attempt that fails half-way may come by again."""
        if not self.answered:
            self.answered = True
            self.done(placed, error, duplicate)

    def answer_stored(self, placed: Placed) -> None:
        """Something with this key is stored: it is this one's first answer, if it is the same thing."""
        if is_resend(placed, self.kind, self.target_id):
            self.answer(placed, duplicate=True)
        else:
            self.answer(None, key_taken())


def is_resend(placed: Placed, kind: EventKind, target_id: int | None) -> bool:
    return placed.kind is kind and placed.target_id == target_id


def key_taken() -> ChatError:
    """An `ack` would say that something was stored which was not."""
    return ChatError(
        Code.CONFLICT, "client_msg_id: was used for something else in this channel", field="client_msg_id"
    )
