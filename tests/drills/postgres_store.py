"""What happens to PostgreSQL: a real server that is killed, frozen, cut off, full, out of connections."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
from support.postgres import PASSWORD, USER, Postgres, postgres_server, standby_of, until_in_step
from support.wires import PostgresWire, Wire, wire_to

from drills.breaking import (
    ERRORS_S,
    FREEZE_S,
    FULL_S,
    ONE_IN,
    SMALL_DISK_MIB,
    Broken,
    done,
    full,
    of_wire,
    small_disk,
    start_failing,
    stop_failing,
)
from drills.store_fault import StoreFault, StoreUnderTest

DOWN_S = 5.0
EXHAUSTED_S = 10.0
PROMOTED_S = 10.0
POSTGRES_CUTS_ONE_IN = 50
"""Of what is written to connections; a transaction is several of them."""

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
    with small_disk(SMALL_DISK_MIB) as disk:
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
        start_failing(wire, POSTGRES_CUTS_ONE_IN)

    def work() -> None:
        stop_failing(wire)
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
            await start_again(server)

    faults = [
        StoreFault("kill", DOWN_S, killed, stops=True),
        StoreFault("freeze", FREEZE_S, done(server.freeze, server.thaw), stops=True),
        StoreFault("errors", ERRORS_S, done(fail, work)),
        StoreFault("connections-exhausted", EXHAUSTED_S, _exhausted(server)),
        *of_wire(wire),
    ]
    if disk is not None:
        faults.append(StoreFault("full", FULL_S, full(disk, lambda: start_again(server))))
    return faults


def _exhausted(server: Postgres) -> Broken:
    """Somebody else takes every connection there is, those of the pods too, and each that becomes free."""

    async def take(taken: list[asyncpg.Connection]) -> None:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(
                    await asyncpg.connect(server.url(), server_settings={"application_name": "greedy"})
                )

    async def keep_taking(taken: list[asyncpg.Connection]) -> None:
        while True:
            await take(taken)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        taken: list[asyncpg.Connection] = []
        await take(taken)
        taking = asyncio.create_task(keep_taking(taken))
        ours = "application_name = 'chatcluster'"
        await taken[0].execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        try:
            yield
            if taking.done():
                taking.result()
        finally:
            taking.cancel()
            await asyncio.wait([taking])
            for connection in taken:
                connection.terminate()

    return broken


async def start_again(server: Postgres) -> None:
    """If it does not run: a server whose disk is full may end for good, as the system would start it again."""
    if server.ended():
        server.launch()
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(server.answers):
            await asyncio.sleep(0.1)


# --- with a standby -------------------------------------------------------------------------------------------


class _Two:
    """A primary and the standby that its commits wait for, which change places."""

    def __init__(self, primary: Postgres, standby: Postgres) -> None:
        self._primary, self._standby = primary, standby

    @asynccontextmanager
    async def promoted(self) -> AsyncIterator[None]:
        self._primary.kill()
        await asyncio.to_thread(self._standby.promote)
        self._primary, self._standby = self._standby, self._primary
        try:
            yield
        finally:
            await self._begin_standby_anew()

    async def _begin_standby_anew(self) -> None:
        """The dead primary comes back as a copy of the new one, at its own port."""
        dead = self._standby
        await asyncio.to_thread(shutil.rmtree, dead.data)
        copy = await asyncio.to_thread(self._primary.copy_to, dead.folder)
        dead.launch()
        await asyncio.to_thread(until_in_step, self._primary)
        assert copy.data == dead.data


@asynccontextmanager
async def replicated_postgres() -> AsyncIterator[StoreUnderTest]:
    """Pods know both servers, each by a wire of its own."""
    async with AsyncExitStack() as stack:
        primary = stack.enter_context(postgres_server(fsync="on"))
        primary.sql("CREATE DATABASE chat")
        standby = stack.enter_context(standby_of(primary))
        wires = [
            await stack.enter_async_context(wire_to(each.port, PostgresWire)) for each in (primary, standby)
        ]
        hosts = ",".join(f"127.0.0.1:{wire.port}" for wire in wires)
        words = f"PostgreSQL {primary.sql('SHOW server_version')} with a synchronous standby"
        url = f"postgresql://{USER}:{PASSWORD}@{hosts}/chat?connect_timeout_s=1"
        faults = [StoreFault("standby-promoted", PROMOTED_S, _Two(primary, standby).promoted)]
        yield StoreUnderTest("postgres-replicated", words, url, faults)
