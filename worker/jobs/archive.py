"""The pieces of an export: each a gzip member with whole files of a tar archive in it.

Members that follow each other are one gzip stream, and files that follow each other one tar archive. So each piece is
made alone, in bounded memory, and made again after a death; what is downloaded is the pieces one after the other.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterable
from typing import Any

import msgspec

from chatkernel.ids import NowMs

FILE_MAX_BYTES = 1024 * 1024
"""Of one file of lines; a line that is longer alone has a file of its own."""
END = gzip.compress(bytes(2 * tarfile.BLOCKSIZE), mtime=0)
"""The end of a tar archive."""

_encode = msgspec.json.Encoder().encode


def piece(files: Iterable[tuple[str, bytes]], now: NowMs) -> bytes:
    """Files by name and content."""
    parts: list[bytes] = []
    for name, content in files:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = len(content), now() // 1000, 0o600
        parts += (info.tobuf(tarfile.PAX_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE))
    return gzip.compress(b"".join(parts), 6, mtime=0)


def lines(items: Iterable[Any]) -> bytes:
    """JSON lines."""
    return b"".join(_encode(item) + b"\n" for item in items)


def fitting(items: list[Any]) -> list[bytes]:
    """As many leading items, as lines, as go into a file: at least one, where there is one."""
    kept: list[bytes] = []
    room = FILE_MAX_BYTES
    for item in items:
        line = _encode(item) + b"\n"
        room -= len(line)
        if room < 0 and kept:
            break
        kept.append(line)
    return kept
