"""What happens to each store: real servers and files, and what is done to them."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

from support.mongo import java_build
from support.mongo.chosen import with_database
from support.mongo.java_server import java_server
from support.postgres import PASSWORD, USER, Postgres
from support.wires import MongoWire, PostgresWire, Wire, wire_to

from drills.store_fault import StoreFault, StoreUnderTest

FREEZE_S, CUT_S = 20.0, 60.0
DOWN_S = 5.0
ERRORS_S, SLOW_S, FULL_S = 15.0, 15.0, 10.0
LOCK_S = 12.0
"""Longer than an append is tried."""
DELAY_S = 0.1
ONE_IN = 10
POSTGRES_CUTS_ONE_IN = 50
"""Of what is written to connections; a transaction is several of them."""
SMALL_DISK_MIB = 192

Broken = Callable[[], AbstractAsyncContextManager[None]]
Opening = AbstractAsyncContextManager[StoreUnderTest]


def _done(strike: Callable[[], object], heal: Callable[[], object]) -> Broken:
    """From two plain functions, which are quick."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        strike()
        try:
            yield
        finally:
            heal()

    return broken


def _start_failing(wire: Wire, every: int) -> None:
    wire.failed, wire.fails_every = 0, every


def _stop_failing(wire: Wire) -> None:
    wire.fails_every = 0
    if not wire.failed:
        raise AssertionError("nothing failed on the wire")


def _of_wire(wire: Wire) -> list[StoreFault]:
    def slow(delay_s: float) -> Callable[[], None]:
        return lambda: setattr(wire, "delay_s", delay_s)

    return [
        StoreFault("cut", CUT_S, _done(wire.cut, wire.mend), stops=True),
        StoreFault("slow", SLOW_S, _done(slow(DELAY_S), slow(0.0))),
    ]


# --- PostgreSQL -----------------------------------------------------------------------------------------------

FAILING = """
CREATE SEQUENCE failed;
CREATE OR REPLACE FUNCTION fail_sometimes() RETURNS trigger AS $$
BEGIN
  IF random() < 1.0 / {one_in} THEN
    PERFORM nextval('failed');  -- which no rollback takes back
    RAISE EXCEPTION 'the drill says so' USING ERRCODE =
      (ARRAY['40001', '40P01', '55P03', '53200', '57014', 'XX000'])[1 + floor(random() * 6)::int];
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER fail_sometimes BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail_sometimes();
"""


@asynccontextmanager
async def postgres() -> AsyncIterator[StoreUnderTest]:
    with _small_disk(SMALL_DISK_MIB) as disk:
        server = Postgres(disk or Path(tempfile.mkdtemp(prefix="drill-pg-")))
        server.create()
        server.start()
        server.sql("CREATE DATABASE chat")
        try:
            async with wire_to(server.port, PostgresWire) as wire:
                url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{wire.port}/chat"
                words = f"PostgreSQL {server.sql('SHOW server_version')}, fsync {server.sql('SHOW fsync')}"
                yield StoreUnderTest("postgres", words, url, _postgres_faults(server, wire, disk))
        finally:
            server.stop()
            if disk is None:
                shutil.rmtree(server.folder, ignore_errors=True)


def _postgres_faults(server: Postgres, wire: Wire, disk: Path | None) -> list[StoreFault]:
    def fail() -> None:
        server.sql(FAILING.format(one_in=ONE_IN), "chat")
        _start_failing(wire, POSTGRES_CUTS_ONE_IN)

    def work() -> None:
        _stop_failing(wire)
        server.sql("DROP TRIGGER fail_sometimes ON events", "chat")
        failed = server.sql("SELECT is_called FROM failed", "chat")
        server.sql("DROP SEQUENCE failed", "chat")
        if failed != "t":
            raise AssertionError("no insert failed")

    @asynccontextmanager
    async def killed() -> AsyncIterator[None]:
        server.kill()
        try:
            yield
        finally:
            await _start_again(server)

    faults = [
        StoreFault("kill", DOWN_S, killed, stops=True),
        StoreFault("freeze", FREEZE_S, _done(server.freeze, server.thaw), stops=True),
        StoreFault("errors", ERRORS_S, _done(fail, work)),
        *_of_wire(wire),
    ]
    if disk is not None:
        faults.append(StoreFault("full", FULL_S, _full(disk, lambda: _start_again(server))))
    return faults


async def _start_again(server: Postgres) -> None:
    """If it does not run: a server whose disk is full may end for good, as the system would start it again."""
    if server.ended():
        server.launch()
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(server.answers):
            await asyncio.sleep(0.1)


# --- MongoDB --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def mongo() -> AsyncIterator[StoreUnderTest]:
    """In memory: it cannot be killed and keep what it had, nor run out of disk. A deployment of yours (MONGODB_URI)
    is not ours to break. Raises NoJava where there can be none."""
    with java_server() as server:
        async with wire_to(server.port, MongoWire) as wire:
            url = with_database(f"mongodb://127.0.0.1:{wire.port}/", f"drill_{secrets.token_hex(4)}")
            faults = [
                StoreFault("freeze", FREEZE_S, _done(server.freeze, server.thaw), stops=True),
                StoreFault(
                    "errors",
                    ERRORS_S,
                    _done(lambda: _start_failing(wire, ONE_IN), lambda: _stop_failing(wire)),
                ),
                *_of_wire(wire),
            ]
            yield StoreUnderTest("mongo", f"mongo-java-server {java_build.version()}", url, faults)


# --- SQLite ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sqlite() -> AsyncIterator[StoreUnderTest]:
    """A file of a place of its own, with little room."""
    with _small_disk(SMALL_DISK_MIB) as disk:
        folder = disk or Path(tempfile.mkdtemp(prefix="drill-sqlite-"))
        file = folder / "chat.db"
        faults = [
            StoreFault("locked", LOCK_S, _locked(file)),
            StoreFault("slow", SLOW_S, _locked_by_turns(file)),
        ]
        if disk is not None:
            faults.append(StoreFault("full", FULL_S, _full(disk, _nothing)))
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


# --- disks ----------------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(mib: int) -> Iterator[Path | None]:
    """A file system of its own, which only root may make; None, and a word about it, where that is impossible."""
    with tempfile.TemporaryDirectory(prefix="drill-disk-") as folder:
        image, place = Path(folder) / "image", Path(folder) / "disk"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(mib << 20)
        # A real one, on which `fsync` means something.
        make = ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
        mount = ["mount", "-o", "loop", str(image), str(place)]
        if os.geteuid() != 0 or not shutil.which(make[0]) or not all(_worked(step) for step in (make, mount)):
            print("NOT DRILLED: a full disk, since no file system can be mounted here", flush=True)
            yield None
            return
        # Others than root have to get there.
        Path(folder).chmod(0o755)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _worked(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _full(disk: Path, afterwards: Callable[[], Awaitable[None]]) -> Broken:
    """Not a byte is left, and what is freed meanwhile is taken, too."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        filler = disk / "filler"
        ended = asyncio.Event()

        async def fill() -> None:
            """By reserving what is free: writing it would keep the whole machine busy."""
            with filler.open("wb", buffering=0) as file:
                while not ended.is_set():
                    free = os.statvfs(disk)
                    for size in (free.f_bavail * free.f_frsize, free.f_frsize):
                        with suppress(OSError):
                            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                    await asyncio.sleep(0.02)

        filling = asyncio.create_task(fill())
        try:
            yield
        finally:
            ended.set()
            await filling
            filler.unlink()
            await afterwards()

    return broken


async def _nothing() -> None:
    pass


STORES: dict[str, Callable[[], Opening]] = {"sqlite": sqlite, "postgres": postgres, "mongo": mongo}
