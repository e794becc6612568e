"""Looks through SQLite's write-ahead log before SQLite does: for commits that are behind a damaged place.

SQLite takes the first frame whose checksum is wrong for the end of the log, as it has to: after a power cut the last
commit may be half there. What is behind it is forgotten without a word, and overwritten. But a commit is written only
when the one before is on the disk. So a wrong frame with a commit behind it, and another frame behind that, is no
power cut: commits that were acked are damaged, and a person has to know before they are gone.

Damage in the very last commit cannot be told from a power cut.

The format is that of https://www.sqlite.org/fileformat.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
MAGIC = 0x377F0682
"""The lowest bit says that the checksums are of big-endian words."""

_WORD_MASK = 0xFFFFFFFF
_PAGE_SIZE_AT = 16
"""In the header of the database file."""

Sums = tuple[int, int]


def has_damaged_commits(database: Path) -> bool:
    """Whether commits in the log of this database would be lost if it were opened. Takes half a second for 16 MiB,
    and nobody may be writing to it."""
    try:
        data = database.with_name(database.name + "-wal").read_bytes()
    except FileNotFoundError:
        return False
    return len(data) > HEADER_BYTES and _Log(data, _page_size(database)).has_damaged_commits()


def _page_size(database: Path) -> int:
    """As the database file says, for a log that cannot say it any more."""
    try:
        with database.open("rb") as file:
            size = int.from_bytes(file.read(_PAGE_SIZE_AT + 2)[_PAGE_SIZE_AT:], "big")
    except OSError:
        return 0
    return 65536 if size == 1 else size


class _Log:
    def __init__(self, data: bytes, page_size: int) -> None:
        magic, _, logged_size = struct.unpack_from(">III", data)
        self._data = memoryview(data)
        self._swap = (sys.byteorder == "little") is (magic & 1 == 1)
        self._sums: Sums = struct.unpack_from(">II", data, 24)
        self._whole = magic & ~1 == MAGIC and self._sum(self._data[:24], (0, 0)) == self._sums
        if not self._whole:
            self._swap = False  # as this machine writes it
        self._page_size = logged_size if self._whole else page_size

    def has_damaged_commits(self) -> bool:
        """Whether a commit and a frame that was written after it are behind a frame, or a header, that is wrong."""
        if self._page_size < 512:
            return False
        salts = bytes(self._data[16:24]) if self._whole else None
        wrong, before, committed = not self._whole, self._sums if self._whole else None, False
        step = FRAME_HEADER_BYTES + self._page_size
        for at in range(HEADER_BYTES, len(self._data) - step + 1, step):
            head = self._data[at : at + FRAME_HEADER_BYTES]
            if salts is not None and head[8:16] != salts:
                # Of an earlier round through the log, which is in the database file already; or damaged.
                wrong, before, committed = True, None, False
                continue
            follows = before is not None and self._follows(at, head, before)
            if wrong and committed and follows:
                return True
            wrong = wrong or not follows
            before = struct.unpack_from(">II", head, 16)
            committed = any(head[4:8])
        return False

    def _follows(self, at: int, head: memoryview, before: Sums) -> bool:
        """Whether the frame is as it was written, after the one whose sums these are."""
        page = self._data[at + FRAME_HEADER_BYTES : at + FRAME_HEADER_BYTES + self._page_size]
        return self._sum(page, self._sum(head[:8], before)) == struct.unpack_from(">II", head, 16)

    def _sum(self, data: memoryview, sums: Sums) -> Sums:
        words = array("I", bytes(data))
        if self._swap:
            words.byteswap()
        first, second = sums
        for one, other in zip(words[::2], words[1::2], strict=True):
            first = (first + one + second) & _WORD_MASK
            second = (second + other + first) & _WORD_MASK
        return first, second
