"""What happens to SQLite: a real file, locked by others, on a disk that is full."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from drills.breaking import DELAY_S, FULL_S, SLOW_S, SMALL_DISK_MIB, Broken, full, small_disk
from drills.store_fault import StoreFault, StoreUnderTest

LOCK_S = 12.0
"""Longer than an append is tried."""


@asynccontextmanager
async def sqlite() -> AsyncIterator[StoreUnderTest]:
    """A file of a place of its own, with little room."""
    with small_disk(SMALL_DISK_MIB) as disk:
        folder = disk or Path(tempfile.mkdtemp(prefix="drill-sqlite-"))
        file = folder / "chat.db"
        faults = [
            StoreFault("locked", LOCK_S, _locked(file)),
            StoreFault("slow", SLOW_S, _locked_by_turns(file)),
        ]
        if disk is not None:
            faults.append(StoreFault("full", FULL_S, full(disk, _nothing)))
        yield StoreUnderTest("sqlite", f"SQLite {sqlite3.sqlite_version}", f"sqlite:///{file}", faults)
        if disk is None:
            shutil.rmtree(folder)


def _locked(file: Path) -> Broken:
    """As a backup does it, or a curious person with a shell."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=20)) as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")

    return broken


def _locked_by_turns(file: Path) -> Broken:
    """Every write has to wait for about as long as a slow disk would take."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        ended = asyncio.Event()

        def hold(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")

        async def take_turns() -> None:
            with closing(
                sqlite3.connect(file, isolation_level=None, timeout=20, check_same_thread=False)
            ) as db:
                while not ended.is_set():
                    await asyncio.to_thread(hold, db)
                    await asyncio.sleep(DELAY_S)
                    db.execute("ROLLBACK")
                    await asyncio.sleep(DELAY_S / 5)

        taking = asyncio.create_task(take_turns())
        try:
            yield
        finally:
            ended.set()
            await taking

    return broken


async def _nothing() -> None:
    pass
