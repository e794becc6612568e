"""Damage in the log of the last commits outlives a backup and a restore: SQLite itself would take it for the log's
end, and forget the commits behind it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from channel_log import ChannelLog
from test_sqlite_damaged import FRAME_BYTES, hurt, over

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql import open_sql
from chatkernel.storage.sql.copies import copy_out, put_back


async def left_by_a_killed_pod(folder: Path) -> Path:
    """A store whose last commits are in its log only."""
    live, path = folder / "live.db", folder / "chat.db"
    store = await open_sql(f"sqlite:///{live}")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 40)
    for end in ("", "-wal"):
        shutil.copy(f"{live}{end}", f"{path}{end}")
    await store.aclose()
    return path


async def test_a_backup_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    path = await left_by_a_killed_pod(tmp_path)
    log = Path(f"{path}-wal")
    hurt(log, over(32 + 10 * FRAME_BYTES + 500, 3))
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(ChatError, match=r"chat\.db-wal: .*damaged.*backup") as refused:
        copy_out(path, tmp_path / "copy.db")
    assert refused.value.code is Code.STORAGE_DAMAGED
    assert (path.read_bytes(), log.read_bytes()) == before
    assert not (tmp_path / "copy.db").exists()


async def test_a_restore_keeps_the_damaged_log_beside_what_it_replaces(tmp_path: Path) -> None:
    path = await left_by_a_killed_pod(tmp_path)
    copy_out(path, tmp_path / "copy.db")
    damaged = tmp_path / "second"
    damaged.mkdir()
    path = await left_by_a_killed_pod(damaged)
    log = Path(f"{path}-wal")
    hurt(log, over(32 + 10 * FRAME_BYTES + 500, 3))
    before = path.read_bytes(), log.read_bytes()
    put_back(tmp_path / "copy.db", path)
    kept = path.with_name("chat.db.replaced")
    assert (kept.read_bytes(), kept.with_name(f"{kept.name}-wal").read_bytes()) == before
