"""The one way in for messages, for sockets and HTTP alike: check, append, and only then answer.

`draft` is the quick path of a socket whose grant is known; `perform` answers any client frame of an actor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from chatkernel.appender import Appender
from chatkernel.blocks import Blocks
from chatkernel.bus import ChannelFrame, Post
from chatkernel.drafts import Check, Draft, Placed, is_resend
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.live import Live
from chatkernel.presence import PresenceStore
from chatkernel.protocol import (
    Ack,
    ClientFrame,
    Delete,
    Delivered,
    Edit,
    EventKind,
    History,
    Presence,
    PresenceEntry,
    PresenceState,
    PresenceWatch,
    React,
    Read,
    Role,
    Send,
    ServerFrame,
    Sync,
    Typing,
    TypingNotice,
    encode_json,
)
from chatkernel.reading import Reading
from chatkernel.receipts import Receipts
from chatkernel.storage.messages import Conversations, EventLog
from chatkernel.storage.model import Grant, SendKey
from chatkernel.validation import check_emoji, check_metadata, check_text

Done = Callable[[Placed | None, ChatError | None, bool], None]
Change = Edit | Delete | React


class Actor(Struct, frozen=True):
    """Who asks."""

    user_id: str
    device_id: str


class Messaging:
    """Holds no state of its own: heads are the appender's, watermarks the receipts'."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        conversations: Conversations,
        appender: Appender,
        receipts: Receipts,
        blocks: Blocks,
        presence: PresenceStore,
        tell: Callable[[Sequence[Post]], None],
        live: Live,
        small_group_max: int,
    ) -> None:
        self._log, self._conversations = event_log, conversations
        self._appender, self._receipts, self._blocks = appender, receipts, blocks
        self._presence, self._tell = presence, tell
        self._live, self._small_group_max = live, small_group_max
        self.reading = Reading(event_log, conversations, live)

    async def perform(self, actor: Actor, frame: ClientFrame) -> list[ServerFrame]:
        """Do what the frame says; the answering frames, the `ack` last. Raises ChatError.

        A `sync` is answered by one page, and by as many as it takes only through `reading`.
        """
        match frame:
            case Send() | Edit() | Delete() | React():
                return [await self._place(actor, frame)]
            case Read() | Delivered():
                return [await self._watermark(actor, frame)]
            case Typing():
                grant = await self.grant(actor.user_id, frame.channel_id)
                self.typing(actor.user_id, frame, grant.member_count)
                return [Ack(frame.id)]
            case History():
                return [await self.reading.history(actor.user_id, frame), Ack(frame.id)]
            case Sync():
                return [*await self.reading.sync_once(actor.user_id, frame), Ack(frame.id)]
            case PresenceWatch():
                return [await self.presence(actor, frame), Ack(frame.id)]
            case _:
                raise ChatError(Code.UNKNOWN_TYPE, "This frame is for sockets only", field="type")

    async def grant(self, user_id: str, channel_id: str) -> Grant:
        """Raises ChatError(BANNED | CHANNEL_NOT_FOUND)."""
        return await self.reading.grant(user_id, channel_id)

    # --- messages and their changes ---------------------------------------------------------------------

    def quick(self, frame: Send) -> bool:
        """Whether `submit` needs nothing from a store for this frame, not even to refuse it."""
        return frame.reply_to is None and self._blocks.known(frame.channel_id) is False

    def submit(self, actor: Actor, frame: Send, members_seq: int, done: Done) -> None:
        """Check and append a message of a member as of `members_seq`; `done` comes later. Raises ChatError for
        what cannot have been stored before."""
        check_text(frame.text, self._live.limits)
        if frame.metadata is not None:
            check_metadata(frame.metadata, self._live.limits)
        self._appender.submit(
            Draft(
                frame.channel_id,
                actor.user_id,
                frame.client_msg_id,
                EventKind.MESSAGE,
                members_seq,
                done,
                frame.text,
                frame.reply_to,
                frame.metadata,
            )
        )

    async def _place(self, actor: Actor, frame: Send | Change) -> Ack:
        """Append what the frame says. A resend gets the first answer, whatever has become of the sender, the
        message or the limits since: so a refusal is only final once the store has been asked. A frame with a field
        that cannot be is no resend of one that was stored."""
        try:
            return await (self._send(actor, frame) if isinstance(frame, Send) else self._change(actor, frame))
        except ChatError as refusal:
            if refusal.retryable or refusal.code is Code.INVALID_FIELD:
                raise
            key = SendKey(frame.channel_id, actor.user_id, frame.client_msg_id)
            placed = await self._appender.stored(key)
            if placed is None or not is_resend(placed, *_thing(frame)):
                raise
            return ack_of(frame.id, frame.channel_id, placed, duplicate=True)

    async def _send(self, actor: Actor, frame: Send) -> Ack:
        grant = await self.grant(actor.user_id, frame.channel_id)
        if frame.reply_to is not None:
            item = await self._log.message(frame.channel_id, frame.reply_to)
            if item is None or item.event.seq <= grant.from_seq or item.event.kind is not EventKind.MESSAGE:
                raise ChatError(Code.MESSAGE_NOT_FOUND, field="reply_to")
        await self._check_blocks(frame.channel_id)
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()

        def done(placed: Placed | None, error: ChatError | None, duplicate: bool) -> None:
            if answer.done():
                return
            if placed is None:
                answer.set_exception(error or ChatError(Code.INTERNAL))
            else:
                answer.set_result(ack_of(frame.id, frame.channel_id, placed, duplicate))

        self.submit(actor, frame, grant.members_seq, done)
        return await answer

    async def _change(self, actor: Actor, frame: Change) -> Ack:
        grant = await self.grant(actor.user_id, frame.channel_id)
        text: str | None = None
        emoji: str | None = None
        on: bool | None = None
        if isinstance(frame, Edit):
            check_text(frame.text, self._live.limits)
            text = frame.text
        elif isinstance(frame, React):
            check_emoji(frame.emoji)
            emoji, on = frame.emoji, frame.on
        check = await self._check_target(actor, frame, grant)
        await self._check_blocks(frame.channel_id)
        placed, duplicate = await self._appender.append(
            channel_id=frame.channel_id,
            sender_id=actor.user_id,
            client_msg_id=frame.client_msg_id,
            kind=_thing(frame)[0],
            members_seq=grant.members_seq,
            text=text,
            target_id=frame.message_id,
            emoji=emoji,
            on=on,
            check=check,
        )
        return ack_of(frame.id, frame.channel_id, placed, duplicate)

    async def _check_blocks(self, channel_id: str) -> None:
        known = self._blocks.known(channel_id)
        if known or (known is None and await self._blocks.ask(channel_id)):
            raise ChatError(Code.BLOCKED)

    async def _check_target(self, actor: Actor, frame: Change, grant: Grant) -> Check | None:
        """The message must be there and visible; edits are the author's, deletes the author's or an admin's. What of
        this has to be asked again of a grant that changes before the event is built."""
        item = await self._log.message(frame.channel_id, frame.message_id)
        if item is None or item.event.seq <= grant.from_seq or item.event.kind is not EventKind.MESSAGE:
            raise ChatError(Code.MESSAGE_NOT_FOUND, field="message_id")
        mine = item.event.sender_id == actor.user_id
        if isinstance(frame, Edit) and not mine:
            raise ChatError(Code.FORBIDDEN, "Only the author may edit a message")
        check = _may_moderate if isinstance(frame, Delete) and not mine else None
        if check is not None:
            check(grant)
        if item.deleted and not isinstance(frame, Delete):
            raise ChatError(Code.CONFLICT, "The message is deleted", field="message_id")
        if isinstance(frame, React) and frame.on and item.reactions is not None:
            most = self._live.limits.reactions_per_message_max
            if frame.emoji not in item.reactions and len(item.reactions) >= most:
                raise ChatError(
                    Code.LIMIT_REACHED, f"At most {most} different reactions", field="emoji", limit=most
                )
        return check

    # --- watermarks and typing ----------------------------------------------------------------------------

    def move_watermark(
        self,
        user_id: str,
        frame: Read | Delivered,
        member_count: int,
        answer: Callable[[ChatError | None], None],
    ) -> None:
        """Raises ChatError(BUSY)."""
        is_read = isinstance(frame, Read)
        # What is read has been delivered, too.
        self._receipts.move(
            frame.channel_id,
            user_id,
            member_count,
            read=frame.seq if is_read else 0,
            delivered=frame.seq,
            answer=answer,
        )

    async def _watermark(self, actor: Actor, frame: Read | Delivered) -> Ack:
        grant = await self.grant(actor.user_id, frame.channel_id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer(error: ChatError | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        self.move_watermark(actor.user_id, frame, grant.member_count, answer)
        await future
        return Ack(frame.id)

    def typing(self, user_id: str, frame: Typing, member_count: int) -> None:
        """In large groups nobody is told: who types there is noise, and costs members × typists. Nor in a 1:1
        where one has blocked the other; that it was not told does not show."""
        if member_count <= self._small_group_max:
            notice = encode_json(TypingNotice(frame.channel_id, user_id, frame.on))
            post = Post(ChannelFrame(frame.channel_id, notice), channels=(frame.channel_id,))
            self._blocks.unless_blocked(frame.channel_id, lambda: self._tell([post]))

    # --- presence ------------------------------------------------------------------------------------------

    async def presence(self, actor: Actor, frame: PresenceWatch) -> Presence:
        """The present state of people (of the members of a channel of mine when it is named). Who has blocked the
        asker is offline to them, as somebody who was never here."""
        user_ids = list(frame.user_ids)
        most = self._live.limits.watches_max
        if len(user_ids) > most:
            raise invalid("user_ids", f"at most {most}", most)
        if frame.channel_id is not None:
            await self.grant(actor.user_id, frame.channel_id)
            members = await self._conversations.members(
                frame.channel_id, limit=self._live.limits.group_members_max
            )
            user_ids.extend(member.user_id for member in members)
        try:
            entries = await self._presence.states(user_ids)
            hidden = await self._blocks.hidden_from(actor.user_id, user_ids)
        except ChatError:
            # Redis, or the store, is away: what is not known is not guessed. That goes for everyone alike, so that
            # it does not show who has blocked the asker.
            entries, hidden = [PresenceEntry(user_id, PresenceState.UNKNOWN) for user_id in user_ids], set()
        offline = PresenceState.OFFLINE
        shown = [PresenceEntry(e.user_id, offline) if e.user_id in hidden else e for e in entries]
        return Presence(shown, frame.id)


def ack_of(frame_id: str, channel_id: str, placed: Placed, duplicate: bool) -> Ack:
    return Ack(frame_id, channel_id, placed.seq, placed.message_id, placed.created_at, duplicate)


_KINDS = {
    Send: EventKind.MESSAGE,
    Edit: EventKind.EDIT,
    Delete: EventKind.DELETE,
    React: EventKind.REACTION,
}


def _thing(frame: Send | Change) -> tuple[EventKind, int | None]:
    """The kind of its event, and the message that it is about."""
    return _KINDS[type(frame)], None if isinstance(frame, Send) else frame.message_id


def _may_moderate(grant: Grant) -> None:
    if grant.role is Role.MEMBER:
        raise ChatError(Code.FORBIDDEN, "Only the author or an admin may delete a message")
