"""Entries of the bus' streams: lists of envelopes, put together, sent, and read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias, TypeVar

import msgspec

from chatkernel.errors import ChatError
from chatkernel.redis_client import Redis, execute_each
from chatkernel.redis_link import Command

ENTRY_MAX_BYTES = 64 * 1024
"""Envelopes of a batch beyond this go into further entries."""

PIPELINE_MAX_BYTES = 4 * 1024 * 1024
"""Bytes written to Redis in one round trip."""

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_list_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])


def decode_entry(
    entry: bytes, all_of: msgspec.msgpack.Decoder[list[T]], one_of: msgspec.msgpack.Decoder[T]
) -> list[T] | None:
    """The envelopes of an entry, without those of kinds that only newer pods know; None if it is no entry."""
    try:
        return all_of.decode(entry)
    except msgspec.DecodeError:
        pass
    found: list[T] = []
    try:
        for envelope in _list_decoder.decode(entry):
            with suppress(msgspec.ValidationError):
                found.append(one_of.decode(envelope))
    except msgspec.DecodeError:
        return None
    return found


class Batch:
    """Entries for one round trip, and which posts are in each."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.size = 0
        self._positions: list[Sequence[int]] = []

    def add(self, command: Command, positions: Sequence[int], size: int) -> None:
        self.commands.append(command)
        self._positions.append(positions)
        self.size += size

    async def send(self, redis: Redis, failures: dict[int, ChatError]) -> int:
        """How many were written; the positions of posts in the others go into `failures`."""
        if not self.commands:
            return 0
        replies = await execute_each(redis, self.commands)
        written = len(replies)
        for reply, positions in zip(replies, self._positions, strict=True):
            if isinstance(reply, ChatError):
                failures.update(dict.fromkeys(positions, reply))
                written -= 1
        return written


_Entry: TypeAlias = tuple[Sequence[int], bytes]
"""Positions of envelopes, and the entry that they are."""


class Entries:
    """Envelopes, each encoded once, and each combination that several pods get put together once."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded = encoded
        self._made: dict[tuple[int, ...], list[_Entry]] = {}

    def of(self, wanted: tuple[int, ...]) -> list[_Entry]:
        if wanted not in self._made:
            self._made[wanted] = self._join(wanted)
        return self._made[wanted]

    def _join(self, wanted: tuple[int, ...]) -> list[_Entry]:
        entries: list[_Entry] = []
        begin = size = 0
        for end, index in enumerate(wanted):
            if end > begin and size + len(self._encoded[index]) > ENTRY_MAX_BYTES:
                entries.append(self._entry(wanted[begin:end]))
                begin, size = end, 0
            size += len(self._encoded[index])
        entries.append(self._entry(wanted[begin:]))
        return entries

    def _entry(self, wanted: Sequence[int]) -> _Entry:
        return wanted, _encoder.encode([msgspec.Raw(self._encoded[index]) for index in wanted])
