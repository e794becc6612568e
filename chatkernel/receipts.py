"""Read and delivered watermarks: coalesced, stored in batches, told within bounds.

However many readers move how often, a channel gives at most one frame per interval and pod; in groups larger than
`receipt_members_max` only the reader's own devices are told, and the others ask when they want to know. The same
holds for a 1:1 where one has blocked the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from msgspec import Struct

from chatkernel.blocks import Blocks
from chatkernel.bus import ChannelFrame, Post, UserFrame
from chatkernel.errors import ChatError, Code
from chatkernel.ids import is_direct
from chatkernel.protocol import Receipt, ReceiptEntry, encode_json
from chatkernel.storage.messages import Conversations
from chatkernel.storage.model import Watermark, WatermarkState

log = logging.getLogger(__name__)

PENDING_MAX = 20_000

Answer = Callable[[ChatError | None], None]


class _Pending(Struct):
    read_seq: int
    delivered_seq: int
    member_count: int
    answers: list[Answer]


class Receipts:
    """Owns the watermarks that wait for the next flush. `tell` gets the posts of each flush."""

    def __init__(
        self,
        conversations: Conversations,
        blocks: Blocks,
        interval_s: float,
        members_max: int,
        tell: Callable[[Sequence[Post]], None],
    ) -> None:
        self._conversations, self._interval_s, self._members_max = conversations, interval_s, members_max
        self._blocks, self._tell = blocks, tell
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._task: asyncio.Task[None] | None = None

    def move(
        self, channel_id: str, user_id: str, member_count: int, *, read: int, delivered: int, answer: Answer
    ) -> None:
        """Note a watermark; `answer` is called when it is stored. Raises ChatError(BUSY)."""
        key = (channel_id, user_id)
        waiting = self._pending.get(key)
        if waiting is None:
            if len(self._pending) >= PENDING_MAX:
                raise ChatError(Code.BUSY, limit=PENDING_MAX, retry_after_s=1.0)
            self._pending[key] = _Pending(read, delivered, member_count, [answer])
        else:
            waiting.read_seq = max(waiting.read_seq, read)
            waiting.delivered_seq = max(waiting.delivered_seq, delivered)
            waiting.answers.append(answer)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="receipts")

    async def aclose(self) -> None:
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(self._interval_s)
                batch, self._pending = self._pending, {}
                await self._flush(batch)
        finally:
            self._task = None

    async def _flush(self, batch: dict[tuple[str, str], _Pending]) -> None:
        marks = [
            Watermark(channel_id, user_id, entry.read_seq, entry.delivered_seq)
            for (channel_id, user_id), entry in batch.items()
        ]
        try:
            states = await self._conversations.put_watermarks(marks)
        except ChatError as error:
            for entry in batch.values():
                _answer(entry, error)
            return
        except Exception:
            log.exception("receipts failed", extra={"watermarks": len(marks)})
            for entry in batch.values():
                _answer(entry, ChatError(Code.INTERNAL))
            return
        try:
            moved = [state for state in states if state is not None and state.moved]
            blocked = await self._blocked({state.channel_id for state in moved})
            self._tell(self._posts(batch, moved, blocked))
        except Exception:
            # They are stored, whatever becomes of telling others.
            log.exception("receipts not told", extra={"watermarks": len(marks)})
        for entry, state in zip(batch.values(), states, strict=True):
            _answer(entry, ChatError(Code.CHANNEL_NOT_FOUND) if state is None else None)

    async def _blocked(self, channel_ids: set[str]) -> set[str]:
        direct = [channel_id for channel_id in channel_ids if is_direct(channel_id)]
        try:
            return await self._blocks.among(direct)
        except ChatError as error:
            # One's own devices are told in any case, and the other may ask later.
            log.debug("blocks not known", extra={"error": str(error)})
            return set(direct)

    def _posts(
        self, batch: dict[tuple[str, str], _Pending], moved: Sequence[WatermarkState], blocked: set[str]
    ) -> list[Post]:
        posts: list[Post] = []
        by_channel: dict[str, list[ReceiptEntry]] = {}
        for state in moved:
            entry = ReceiptEntry(state.user_id, state.read_seq, state.delivered_seq)
            few = batch[state.channel_id, state.user_id].member_count <= self._members_max
            if few and state.channel_id not in blocked:
                by_channel.setdefault(state.channel_id, []).append(entry)
            own = encode_json(Receipt(state.channel_id, [entry], state.unread))
            posts.append(Post(UserFrame([state.user_id], own), users=(state.user_id,)))
        for channel_id, entries in by_channel.items():
            frame = encode_json(Receipt(channel_id, entries))
            posts.append(Post(ChannelFrame(channel_id, frame), channels=(channel_id,)))
        return posts


def _answer(entry: _Pending, error: ChatError | None) -> None:
    for answer in entry.answers:
        answer(error)
