"""The rule of watermarks, for every adapter: forward only, not past the head, and what was read was delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chatkernel.storage.model import Watermark, WatermarkState

Key: TypeAlias = tuple[str, str]
"""A channel and a person."""


@dataclass(slots=True)
class Standing:
    """A membership's watermarks while a batch is applied."""

    read_seq: int
    delivered_seq: int
    read_messages: int
    from_seq: int
    head_seq: int
    head_messages: int
    moved: bool = False
    read_moved: bool = False

    def move(self, mark: Watermark) -> bool:
        """Whether anything moved."""
        read = max(self.read_seq, min(mark.read_seq, self.head_seq))
        delivered = max(self.delivered_seq, min(mark.delivered_seq, self.head_seq), read)
        if read == self.read_seq and delivered == self.delivered_seq:
            return False
        self.read_moved |= read != self.read_seq
        self.read_seq, self.delivered_seq, self.moved = read, delivered, True
        return True


def move_all(standing: Mapping[Key, Standing], watermarks: Sequence[Watermark]) -> list[bool]:
    """Apply a batch in order; of each mark whether it moved anything. Who is not in `standing` is no member."""
    return [
        (found := standing.get((mark.channel_id, mark.user_id))) is not None and found.move(mark)
        for mark in watermarks
    ]


def to_count(standing: Mapping[Key, Standing]) -> dict[Key, Standing]:
    """After a batch: those whose messages up to the new mark have to be read from the event there. At the head the
    number is known, and is set."""
    inside: dict[Key, Standing] = {}
    for key, found in standing.items():
        if not found.read_moved:
            continue
        if found.read_seq == found.head_seq:
            found.read_messages = found.head_messages
        elif found.read_seq > found.from_seq:
            inside[key] = found
    return inside


def states(
    standing: Mapping[Key, Standing], watermarks: Sequence[Watermark], moved: Sequence[bool]
) -> list[WatermarkState | None]:
    """What is answered to each mark; None where the person is not a member."""
    return [_state(standing, mark, did) for mark, did in zip(watermarks, moved, strict=True)]


def _state(standing: Mapping[Key, Standing], mark: Watermark, moved: bool) -> WatermarkState | None:
    found = standing.get((mark.channel_id, mark.user_id))
    if found is None:
        return None
    unread = found.head_messages - found.read_messages
    return WatermarkState(mark.channel_id, mark.user_id, found.read_seq, found.delivered_seq, unread, moved)
