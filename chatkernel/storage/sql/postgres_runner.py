"""Runs operations on PostgreSQL, each on a connection of a pool and in a task of its own.

After an error it is known whether a transaction was undone, but for one case: the connection is lost while the
commit is under way. Then nothing is tried again here, and who needs to know asks the store. What was undone because
of others (deadlock, serialisation failure) or because the connection had gone before is tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from weakref import WeakSet

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.postgres_engine import Link, Servers
from chatkernel.storage.sql.postgres_errors import (
    OutcomeUnknown,
    asks_again,
    hide_values,
    is_database_error,
    is_gone,
    is_stuck,
    translate,
)
from chatkernel.storage.sql.postgres_standby import WAITING, Doubt, Turns, taken
from chatkernel.storage.sql.postgres_url import PostgresOptions
from chatkernel.storage.sql.runner import Operation, T

RETRY_S = 3.0
"""For how long what was undone because of others is tried again."""
RETRY_FIRST_S, RETRY_MOST_S = 0.005, 0.2
LOST_TRIES = 2
"""How often an operation may find its connection gone: the whole pool of them goes with a server."""
MIGRATE_S = 600.0
BUILD_S = 24 * 3600.0
"""An index of a large table takes hours, in which others write."""
BUILD_POLL_S = 0.2
_MIGRATION_LOCK, _BUILD_LOCK = 0x63686174, 0x63686175

_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Not SERIALIZABLE: its locks are of pages, so in tables of a few pages all who write would undo each other."""
_CONFIRM = "SELECT pg_logical_emit_message(true, 'chatcluster', '')"
"""Writes to the log and nowhere else. Its commit waits until all that was written before is where it has to be."""

_Attempt = Callable[[AsyncConnection, Link], Awaitable[T]]


class NoAnswer(Exception):
    """The server did not answer in time, and the connection was given up."""


class PostgresRunner:
    """The runner of one primary that many processes share."""

    def __init__(
        self,
        engine: AsyncEngine,
        servers: Servers,
        options: PostgresOptions,
        random_source: random.Random | None = None,
    ) -> None:
        self._engine, self._servers, self._options = engine, servers, options
        self._random = random_source or random.Random()
        self._turns = Turns(options.pool_size, options.pool_wait_s, self._has_overdue)
        self._doubt = servers.doubt = Doubt(self.confirm)
        self._tasks: set[asyncio.Task[object]] = set()
        self._links: WeakSet[Link] = WeakSet()
        self._closed = False
        self.damage: ChatError | None = (
            None  # a server is mended while it runs: what was met once may be gone
        )

    async def read(self, operation: Operation[T]) -> T:
        return await self._run(lambda conn, link: _transact(conn, link, _SNAPSHOT, operation))

    async def look(self, operation: Operation[T]) -> T:
        return await self._run(lambda conn, _link: conn.run_sync(operation))

    async def write(
        self,
        operation: Operation[T],
        at_once: Operation[T | None] | None = None,
        *,
        about: Sequence[str] = (),
    ) -> T:
        async def attempt(conn: AsyncConnection, link: Link) -> T:
            if at_once is not None:
                done = await _commit_at_once(conn, link, at_once)
                if done is not None:
                    return done
            return await _transact(conn, link, _begin(about), operation)

        return await self._run(attempt, writes=True)

    async def migrate(self, operation: Operation[T]) -> T:
        def alone(conn: Connection) -> T:
            conn.exec_driver_sql(f"SET LOCAL statement_timeout = '{MIGRATE_S:.0f}s'")
            conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATE_S:.0f}s'")
            conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            # Writers queue up behind a change of a table that waits: better it gives up and is tried again.
            conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{self._options.lock_timeout_ms}ms'")
            return operation(conn)

        return await self._run(lambda conn, link: _transact(conn, link, _begin(()), alone), MIGRATE_S)

    async def build(self, operation: Operation[T]) -> T:
        def alone(conn: Connection) -> T:
            for name in ("statement_timeout", "lock_timeout"):
                conn.exec_driver_sql(f"SET {name} = '{BUILD_S:.0f}s'")
            # Tried again and again: who waits for it in a statement has a snapshot, and a concurrent build of
            # whoever holds it waits for all snapshots.
            until_s = time.monotonic() + BUILD_S
            while not conn.exec_driver_sql(f"SELECT pg_try_advisory_lock({_BUILD_LOCK})").scalar():
                if time.monotonic() > until_s:
                    raise ChatError(Code.STORAGE_UNAVAILABLE, "Another process is building indexes")
                conn.exec_driver_sql(f"SELECT pg_sleep({BUILD_POLL_S})")
            return operation(conn)

        async def attempt(conn: AsyncConnection, link: Link) -> T:
            try:
                return await conn.run_sync(alone)
            finally:
                link.terminate()  # nobody else is to have its time-outs, and the lock goes with it

        return await self._run(attempt, BUILD_S)

    async def confirm(self) -> None:
        async def attempt(_conn: AsyncConnection, link: Link) -> None:
            with _commit_under_way(link):
                await link.execute(_CONFIRM)

        await self._run(attempt, writes=True)

    async def settle(self) -> None:
        await self._doubt.settle()

    async def aclose(self) -> None:
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        # Nothing is under way on them. A farewell would wait for a server that may be frozen.
        for link in self._links:
            link.terminate()
        await self._engine.dispose()

    # --- attempts ---------------------------------------------------------------------------------------

    async def _run(self, attempt: _Attempt[T], patience_s: float = 0.0, *, writes: bool = False) -> T:
        """In a task of its own: a caller that gives up must not cut a statement in two, for then the server would
        be asked to cancel it, even in the middle of its commit."""
        if self._closed:
            raise ChatError(Code.STORAGE_UNAVAILABLE, "The store is closed")
        attempts = self._attempts(attempt, patience_s or self._options.timeout_s)
        task = asyncio.create_task(self._in_turn(attempts) if writes else attempts)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        taken(task)

    async def _in_turn(self, attempts: Coroutine[None, None, T]) -> T:
        try:
            async with self._turns.turn():
                return await attempts
        finally:
            attempts.close()  # It may not have begun.

    async def _has_overdue(self) -> bool:
        query = WAITING.format(overdue_ms=self._options.statement_timeout_ms)
        return bool(await self.look(lambda conn: conn.exec_driver_sql(query).scalar()))

    async def _attempts(self, attempt: _Attempt[T], patience_s: float) -> T:
        until_s, tries, lost = time.monotonic() + RETRY_S, 0, 0
        while True:
            try:
                async with self._connection(patience_s) as (conn, link):
                    return await attempt(conn, link)
            except Exception as error:
                if not is_database_error(error) and not isinstance(error, NoAnswer):
                    raise
                hide_values(error)
                lost += is_gone(error)
                again = asks_again(error) or (is_gone(error) and lost <= LOST_TRIES)
                if isinstance(error, OutcomeUnknown | NoAnswer) or not again or time.monotonic() > until_s:
                    raise translate(error) from error
            tries += 1
            most_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(tries, 10))
            await asyncio.sleep(self._random.uniform(0, most_s))

    @asynccontextmanager
    async def _connection(self, patience_s: float) -> AsyncIterator[tuple[AsyncConnection, Link]]:
        """A connection of the pool, which is cut when this takes longer than `patience_s`."""
        async with self._engine.connect() as conn:
            link: Link = (await conn.get_raw_connection()).driver_connection  # type: ignore[assignment]
            self._links.add(link)
            frozen = False

            def give_up() -> None:
                nonlocal frozen
                frozen = True
                link.terminate()

            timer = asyncio.get_running_loop().call_later(patience_s, give_up)
            try:
                yield conn, link
            except Exception as error:
                if not is_database_error(error):
                    raise
                self._doubt_after(error, frozen)
                if is_gone(error) or is_stuck(error):
                    self._servers.distrust(link)
                if is_gone(error):
                    # Said by the server, perhaps, before it closed: the next must not be given this one.
                    link.terminate()
                    if frozen and not isinstance(error, OutcomeUnknown):
                        raise NoAnswer from error
                raise
            finally:
                timer.cancel()

    def _doubt_after(self, error: Exception, frozen: bool) -> None:
        unknown = isinstance(error, OutcomeUnknown)
        if not frozen and (unknown or is_gone(error)):
            self._doubt.arose()
        if frozen and unknown:
            # Not in doubt: nobody sees what it wrote while it waits.
            self._turns.gave_up()


def _begin(about: Sequence[str]) -> str:
    """Begin, and wait for those who are about the same things: always in the same order, so never in a circle."""
    locks = sorted(
        {int.from_bytes(blake2b(thing.encode(), digest_size=8).digest(), signed=True) for thing in about}
    )
    return ";".join([_WRITE, *(f"SELECT pg_advisory_xact_lock({lock})" for lock in locks)])


async def _transact(conn: AsyncConnection, link: Link, begin: str, operation: Operation[T]) -> T:
    try:
        await link.execute(begin)
        result = await conn.run_sync(operation)
    except BaseException:
        await _roll_back(link)
        raise
    with _commit_under_way(link):
        ended = await link.execute("COMMIT")
    if ended != "COMMIT":
        raise RuntimeError("an operation went on in a transaction that had failed")
    return result


async def _commit_at_once(conn: AsyncConnection, link: Link, operation: Operation[T]) -> T:
    with _commit_under_way(link):
        return await conn.run_sync(operation)


async def _roll_back(link: Link) -> None:
    """Never in the way of the error that led here; a connection that cannot even do this is not used again."""
    try:
        if not link.is_closed():
            await link.execute("ROLLBACK")
    except Exception as error:
        link.terminate()
        if not is_database_error(error):
            raise


@contextmanager
def _commit_under_way(link: Link) -> Iterator[None]:
    """Raises OutcomeUnknown when the connection is lost within, or the server did not wait for its standby."""
    link.warned = False
    try:
        yield
    except Exception as error:
        if is_database_error(error) and is_gone(error):
            raise OutcomeUnknown from error
        raise
    if link.warned:
        raise OutcomeUnknown
