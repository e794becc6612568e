"""A process that writes to SQLite is killed at any moment of any step: what it acked is there, once and in order.

What is killed is the process and not the machine: that the system's own write to the disk is waited for is
`synchronous=FULL`, which `test_sqlite_faults.py` looks at.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

SCRIPT = Path(__file__).with_name("writers_to_kill.py")
FILES_EVERY = 25
"""So many writers follow each other on one file. The first of them is killed while it makes the tables, and every
fifth after it while it opens the file; the others while they write."""
OPENS_MOST_S, WRITES_MOST_S = 0.3, 0.08
FEW_PAGES, USUAL_PAGES = 10, 4000
"""Checkpoints after nearly every commit, and as the product does them."""

Ack = tuple[str, int, str]


class Nursery:
    """Has writers born and kills them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill_one(self, url: str, checkpoint_pages: int, lives_s: float, *, writes: bool) -> list[Ack]:
        """What it acked in its time, which is counted from its first ack if it `writes`, or from its birth."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{url} {checkpoint_pages}\n".encode())
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        acked = self._read_ack() if writes else []
        time.sleep(lives_s)  # the random moment is the test
        os.kill(pid, signal.SIGKILL)
        while more := self._read_ack():
            acked += more
        return acked

    def _read_ack(self) -> list[Ack]:
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert len(words) in (0, 3), words
        return [(words[0].decode(), int(words[1]), words[2].decode())] if words else []


@contextmanager
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@dataclass
class Ledger:
    """All that was acked in one file, by all its writers."""

    acked: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, acks: list[Ack]) -> None:
        for channel_id, seq, key in acks:
            assert self.acked[channel_id].setdefault(seq, key) == key, "two acks for one place"

    def check(self, path: Path) -> None:
        """A reader of its own, which begins by recovering what the killed writer left."""
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'events'").fetchall():
                assert not self.acked
                return
            stored: dict[str, dict[int, str]] = defaultdict(dict)
            for channel_id, seq, key in db.execute("SELECT channel_id, seq, client_msg_id FROM events"):
                stored[channel_id][seq] = key
            heads = dict(db.execute("SELECT channel_id, head_seq FROM channels").fetchall())
        assert heads == {channel_id: len(log) for channel_id, log in stored.items()}
        for log in stored.values():
            assert sorted(log) == list(range(1, len(log) + 1))
            assert len(set(log.values())) == len(log)
        for channel_id, log in self.acked.items():
            assert log.items() <= stored[channel_id].items()


def kill_writers(tmp_path: Path, number: int, seed: int) -> int:
    """How many acks there were in all."""
    rng, acks = Random(seed), 0
    with nursery() as born:
        for first in range(0, number, FILES_EVERY):
            path, ledger = tmp_path / f"chat{first}.db", Ledger()
            for turn in range(min(FILES_EVERY, number - first)):
                pages, writes = rng.choice((FEW_PAGES, USUAL_PAGES)), turn % 5 > 0
                lives_s = rng.uniform(0, WRITES_MOST_S if writes else OPENS_MOST_S)
                acked = born.kill_one(f"sqlite:///{path}", pages, lives_s, writes=writes)
                acks += len(acked)
                ledger.add(acked)
                if path.exists():
                    ledger.check(path)
    return acks


def test_what_writers_acked_before_they_were_killed_is_there(tmp_path: Path) -> None:
    assert kill_writers(tmp_path, 6, seed=1) >= 4


@pytest.mark.slow
def test_two_hundred_and_fifty_more_of_them(tmp_path: Path) -> None:
    assert kill_writers(tmp_path, 250, seed=2) >= 200
