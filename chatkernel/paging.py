"""How much goes into a page: bounded by items and by bytes, for a page of long texts would fill an outbox alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from chatkernel.protocol import Event, HistoryItem, encode_json
from chatkernel.storage.messages import EventLog
from chatkernel.storage.model import EventRange

HEADS_PER_PAGE = 500

OUTBOX_SHARE = 4
"""A page has at most this part of what a connection may have unsent."""


def within_bytes(events: Sequence[Event], max_bytes: int) -> int:
    """How many leading events fit into so many bytes of JSON: at least one, where there is one."""
    room = max_bytes
    for count, event in enumerate(events):
        room -= len(encode_json(event))
        if room < 0:
            return max(1, count)
    return len(events)


def window(items: Sequence[HistoryItem], anchor: int, max_bytes: int) -> tuple[int, int]:
    """Start and end of the items around the one at `anchor` that fit into so many bytes of JSON: that one in any
    case, and as much on either side as there is room for."""
    if not items:
        return 0, 0
    sizes = [len(encode_json(item)) for item in items]
    start, end = anchor, anchor + 1
    room, left = max_bytes - sizes[anchor], -1
    while left != room:
        left = room
        if start > 0 and sizes[start - 1] <= room:
            start -= 1
            room -= sizes[start]
        if end < len(sizes) and sizes[end] <= room:
            room -= sizes[end]
            end += 1
    return start, end


class Stride:
    """How many events to ask the store for, where a page may hold fewer by their bytes: what is read and does not fit
    is read again for the next page, and that should be little."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.items = most

    def read(self, found: int, fit: int) -> None:
        """So many were found, and so many of them fitted into the page."""
        self.items = max(1, fit) if fit < found else min(self._most, self.items * 2)


async def read_behind(
    event_log: EventLog, behind: dict[str, tuple[int, int]], page_items: int, page_bytes: int
) -> AsyncIterator[tuple[list[Event], list[str]]]:
    """Read channels from (after_seq, upto_seq] in pages of about `page_items` events and `page_bytes` bytes.

    Gives each page's events and the channels that are complete with it. Channels that are not behind are complete
    in the first pages, HEADS_PER_PAGE at a time. Between pages nothing is kept of what was read, for a reader that is
    slow may take a minute for each.
    """
    current = [channel_id for channel_id, (after, upto) in behind.items() if after >= upto]
    for start in range(0, len(current), HEADS_PER_PAGE):
        yield [], current[start : start + HEADS_PER_PAGE]
    left = {channel_id: span for channel_id, span in behind.items() if span[0] < span[1]}
    stride = Stride(page_items)
    while left:
        yield await _read_page(event_log, left, stride, page_bytes)


async def _read_page(
    event_log: EventLog, left: dict[str, tuple[int, int]], stride: Stride, page_bytes: int
) -> tuple[list[Event], list[str]]:
    """The next events, and the channels complete with them; `left` is moved on."""
    wanted: list[EventRange] = []
    room = stride.items
    for channel_id, (after, upto) in left.items():
        wanted.append(EventRange(channel_id, after, min(room, upto - after), upto))
        room -= min(room, upto - after)
        if room <= 0:
            break
    answers = await event_log.events(wanted)
    found = [event for got in answers for event in got]
    fit = within_bytes(found, page_bytes)
    stride.read(len(found), fit)
    complete: list[str] = []
    over = fit
    for asked, got in zip(wanted, answers, strict=True):
        kept = got[:over]
        over -= len(kept)
        upto = left[asked.channel_id][1]
        if len(kept) == len(got) and (not got or got[-1].seq >= upto):
            complete.append(asked.channel_id)
            del left[asked.channel_id]
        elif kept:
            left[asked.channel_id] = (kept[-1].seq, upto)
    return found[:fit], complete
