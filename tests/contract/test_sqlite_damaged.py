"""A SQLite file that is damaged is refused when it is opened, by its name and with the way to repair it; damage that
is met later is told to whoever meets it, and no ack is given for what is not stored."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from channel_log import ChannelLog
from sqlalchemy import Connection

from chatkernel.appender import Appender
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange, InsertOutcome, Run
from chatkernel.storage.sql import open_sql
from chatkernel.storage.sql.turnstile import Turnstile

OTHER = Path(__file__).with_name("appending_process.py")
FRAME_BYTES = 24 + 4096
COMMITS = 30

Wound = Callable[[bytearray], None]


def over(start: int, length: int) -> Wound:
    """Overwrites so many bytes; a negative start counts from the end."""

    def wound(data: bytearray) -> None:
        at = start if start >= 0 else len(data) + start
        data[at : at + length] = b"\xa5" * length

    return wound


def middle(data: bytearray) -> None:
    over(len(data) // 2, 20_000)(data)


def hurt(path: Path, wound: Wound) -> None:
    data = bytearray(path.read_bytes())
    wound(data)
    path.write_bytes(data)


async def filled(path: Path, events: int = 500) -> ChannelLog:
    """A file with a channel in it, closed."""
    store = await open_sql(f"sqlite:///{path}")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", events)
    await store.aclose()
    return log


@contextmanager
def left_by_a_killed_process(tmp_path: Path, commits: int) -> Iterator[Path]:
    """A file whose last commits are in its log only, as a killed process leaves it."""
    live, path = tmp_path / "live.db", tmp_path / "chat.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
        for number in range(commits):
            db.execute("INSERT INTO t VALUES (?, ?)", (number, str(number) * 900))
        for name in ("", "-wal"):
            shutil.copy(f"{live}{name}", f"{path}{name}")
        yield path


@pytest.mark.parametrize(
    "wound",
    [over(0, 100), over(16, 2), over(100, 3000), middle],
    ids=["header", "page size", "schema", "middle"],
)
async def test_a_damaged_file_is_refused_by_name_with_the_way_to_repair_it(
    tmp_path: Path, wound: Wound
) -> None:
    path = tmp_path / "chat.db"
    await filled(path)
    hurt(path, wound)
    before = path.read_bytes()
    with pytest.raises(
        ChatError, match=r"chat\.db: .*(damaged|not a database).*backup.*\.recover"
    ) as refused:
        await open_sql(f"sqlite:///{path}")
    assert refused.value.code is Code.STORAGE_DAMAGED and not refused.value.retryable
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "wound",
    [
        over(0, 32),
        over(16, 8),
        over(32 + 10 * FRAME_BYTES + 500, 3),
        over(32 + 10 * FRAME_BYTES, 24),
        over(32, 4096),
        over(-6 * FRAME_BYTES, 2 * FRAME_BYTES),
    ],
    ids=["header", "salts", "a page", "a frame's header", "the first frame", "frames near the end"],
)
async def test_commits_behind_damage_in_the_log_are_not_forgotten_without_a_word(
    tmp_path: Path, wound: Wound
) -> None:
    with left_by_a_killed_process(tmp_path, COMMITS) as path:
        log = Path(f"{path}-wal")
        hurt(log, wound)
        before = log.read_bytes()
        for _ in range(2):
            with pytest.raises(ChatError, match=r"chat\.db-wal: .*damaged.*backup") as refused:
                await open_sql(f"sqlite:///{path}")
            assert refused.value.code is Code.STORAGE_DAMAGED
        assert log.read_bytes() == before


@pytest.mark.parametrize("missing", [1, 100, 2 * FRAME_BYTES + 7, 5 * FRAME_BYTES])
async def test_a_log_that_ends_in_the_middle_of_a_commit_is_that_of_a_power_cut(
    tmp_path: Path, missing: int
) -> None:
    with left_by_a_killed_process(tmp_path, COMMITS) as path:
        log = Path(f"{path}-wal")
        log.write_bytes(log.read_bytes()[:-missing])
        store = await open_sql(f"sqlite:///{path}")
        await store.aclose()


async def test_a_log_that_is_used_again_from_its_beginning_is_whole(tmp_path: Path) -> None:
    """Behind the frames of this round are those of the round before, which are in the file."""
    live, path = tmp_path / "live.db", tmp_path / "chat.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
        for number in range(COMMITS):
            db.execute("INSERT INTO t VALUES (?, ?)", (number, str(number) * 900))
            if number == COMMITS - 5:
                db.execute("PRAGMA wal_checkpoint(RESTART)")
        for name in ("", "-wal"):
            shutil.copy(f"{live}{name}", f"{path}{name}")
    store = await open_sql(f"sqlite:///{path}")
    await store.aclose()


async def test_who_is_not_the_first_to_open_a_file_need_not_look_through_its_log(tmp_path: Path) -> None:
    """For the first has: a pod that joins a busy cluster starts at once."""
    await filled(tmp_path / "chat.db", 1)
    other = [sys.executable, str(OTHER), f"sqlite:///{tmp_path}/chat.db", "w", "0", "local_g"]
    turnstile = Turnstile(tmp_path / "chat.db-turn")
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert not turnstile.is_first()
        process.kill()
    assert turnstile.is_first()
    turnstile.close()


async def test_the_way_to_repair_a_log_works(tmp_path: Path) -> None:
    with left_by_a_killed_process(tmp_path, COMMITS) as path:
        hurt(Path(f"{path}-wal"), over(-6 * FRAME_BYTES, 100))
        with pytest.raises(ChatError, match=r"wal_checkpoint\(TRUNCATE\)"):
            await open_sql(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert 0 < db.execute("SELECT count(*) FROM t").fetchone()[0] < COMMITS
        store = await open_sql(f"sqlite:///{path}")
        await store.aclose()


async def test_damage_met_while_it_runs_is_told_for_good_and_nothing_is_acked(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    log = await filled(path, 3000)
    store = await open_sql(f"sqlite:///{path}")
    log.store = store
    await store.check()
    with closing(sqlite3.connect(path)) as db:
        # Those pages that a later append to this channel cannot do without.
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'channels'").fetchall()
    hurt(path, over((root - 1) * 4096, 4096))
    appender = Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None)
    with pytest.raises(ChatError) as refused:
        await appender.append(
            channel_id=log.channel_id,
            sender_id="u_ann",
            client_msg_id="late",
            kind=EventKind.MESSAGE,
            members_seq=1,
            text="late",
        )
    assert refused.value.code is Code.STORAGE_DAMAGED and not refused.value.retryable
    with pytest.raises(ChatError) as unwell:
        await store.check()
    assert unwell.value.code is Code.STORAGE_DAMAGED
    await store.aclose()


async def test_a_database_that_turns_read_only_is_retryable_and_passes(tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    run = Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text="hi"),))

    async def read_only(on: bool) -> None:
        def turn(conn: Connection) -> bool:
            conn.exec_driver_sql(f"PRAGMA query_only = {int(on)}")
            return True

        await store._db.write(turn, turn)

    await read_only(True)
    with pytest.raises(ChatError, match="read-only") as refused:
        await store.insert([run])
    assert refused.value.code is Code.STORAGE_UNAVAILABLE and refused.value.retryable
    assert len((await store.events([EventRange(log.channel_id, 0, 10)]))[0]) == 1
    await read_only(False)
    assert await store.insert([run]) == [InsertOutcome.STORED]
    await store.aclose()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A file or directory. Root, whom no permissions stop, needs a mount of its own for it."""
    if os.geteuid() != 0:
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        yield
        path.chmod(mode)
        return
    if subprocess.run(["mount", "--bind", path, path], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here, and root may write everywhere else")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("what", ["place", "place/chat.db"])
async def test_what_cannot_be_written_is_refused_at_the_start(tmp_path: Path, what: str) -> None:
    path = tmp_path / "place" / "chat.db"
    await filled(path)
    with (
        read_only(tmp_path / what),
        pytest.raises(ChatError, match=r"chat\.db.*([Rr]ead-only|CANTOPEN|denied)") as refused,
    ):
        await open_sql(f"sqlite:///{path}")
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    await (await open_sql(f"sqlite:///{path}")).aclose()
