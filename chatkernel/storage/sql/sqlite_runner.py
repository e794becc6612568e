"""Runs operations on SQLite: one writer thread, a few readers.

A whole group of writes is one hop to a thread and one commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.errors import is_busy, translate
from chatkernel.storage.sql.runner import Operation, T
from chatkernel.storage.sql.statements import driver
from chatkernel.storage.sql.turnstile import Turnstile

READERS = 2
WRITE_BATCH_MAX = 64
"""Operations that share a commit."""
LOCK_WAIT_S = 5.0
"""How long a write waits for other processes' writes."""
LOCK_POLL_S = 0.0005
"""Between tries for the write lock. SQLite's own wait grows to 100 ms a try, so that whoever has waited longest
gets it last; short equal steps give all processes the same chance."""


class _Job:
    """One operation and the future of whoever waits for it."""

    __slots__ = ("at_once", "error", "future", "loop", "operation", "result")

    def __init__(self, operation: Operation[Any], at_once: Operation[Any] | None) -> None:
        self.operation, self.at_once = operation, at_once
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()


class SqliteRunner:
    """The runner of a SQLite file that several processes may share."""

    def __init__(self, engine: Engine, turnstile: Turnstile, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self._engine, self._turnstile, self._lock_wait_s = engine, turnstile, lock_wait_s
        self._writes: SimpleQueue[_Job | None] = SimpleQueue()
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self.damage: ChatError | None = None
        self._threads = [threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)]
        self._threads += [
            threading.Thread(target=self._read_loop, name=f"sqlite-reader-{number}", daemon=True)
            for number in range(READERS)
        ]
        for thread in self._threads:
            thread.start()

    async def read(self, operation: Operation[T]) -> T:
        return await self._submit(self._reads, operation)

    async def look(self, operation: Operation[T]) -> T:
        return await self.read(operation)

    async def write(
        self,
        operation: Operation[T],
        at_once: Operation[T | None] | None = None,
        *,
        about: Sequence[str] = (),
    ) -> T:
        return await self._submit(self._writes, operation, at_once)

    async def migrate(self, operation: Operation[T]) -> T:
        return await self.write(operation)

    async def build(self, operation: Operation[T]) -> T:
        """In one transaction; writers wait."""
        return await self.write(operation)

    async def confirm(self) -> None:
        """What can be read here is in the file."""

    async def settle(self) -> None:
        """So it is."""

    async def _submit(
        self, queue: SimpleQueue[_Job | None], operation: Operation[T], at_once: Operation[Any] | None = None
    ) -> T:
        if self._closed:
            raise ChatError(Code.STORAGE_UNAVAILABLE, "The store is closed")
        job = _Job(operation, at_once)
        queue.put(job)
        result: T = await job.future
        return result

    async def aclose(self) -> None:
        """What was submitted is finished first."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        for _ in range(READERS):
            self._reads.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        self._turnstile.close()
        self._engine.dispose()

    # --- the threads ------------------------------------------------------------------------------------

    def _read_loop(self) -> None:
        held: Connection | None = None
        while (job := self._reads.get()) is not None:
            try:
                held = held or self._engine.connect()
                job.result = _on_snapshot(held, job.operation)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                job.error = _shown(error)
            self._note_damage([job])
            _tell([job])
        _close(held)

    def _write_loop(self) -> None:
        held: Connection | None = None
        open_for_more = True
        while open_for_more:
            first = self._writes.get()
            if first is None:
                break
            jobs = [first]
            while len(jobs) < WRITE_BATCH_MAX:
                try:
                    job = self._writes.get_nowait()
                except Empty:
                    break
                if job is None:
                    open_for_more = False
                    break
                jobs.append(job)
            try:
                held = held or self._engine.connect()
                if len(jobs) > 1 or not self._commit_at_once(held, first):
                    self._commit_together(held, jobs)
            except Exception as error:  # noqa: BLE001 - handed to the callers
                shown = _shown(error)
                for job in jobs:
                    job.error = job.error or shown
            self._note_damage(jobs)
            _tell(jobs)
        _close(held)

    def _note_damage(self, jobs: list[_Job]) -> None:
        for job in jobs:
            if isinstance(job.error, ChatError) and job.error.code is Code.STORAGE_DAMAGED:
                self.damage = job.error

    def _commit_at_once(self, conn: Connection, job: _Job) -> bool:
        """The interpreter lock, which has to be won back after every step of a statement, once instead of ten
        times. Not while other processes write: they would have to find the right moment between two of these."""
        if job.at_once is None or self._turnstile.waited_for():
            return False
        try:
            job.result = job.at_once(conn)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        return job.result is not None

    def _commit_together(self, conn: Connection, jobs: list[_Job]) -> None:
        """One transaction for all. An operation that fails is undone alone, unless the transaction is lost."""
        raw = driver(conn)
        with self._turnstile.turn():
            self._begin(raw)
        try:
            if len(jobs) == 1:
                jobs[0].result = jobs[0].operation(conn)
            else:
                for job in jobs:
                    _run_undoable(conn, raw, job)
            raw.execute("COMMIT")
        except BaseException:
            # Some faults, a full disk among them, have undone the transaction already.
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise

    def _begin(self, raw: sqlite3.Connection) -> None:
        """Take the write lock, which other processes want too, for at most `lock_wait_s`."""
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
                self._turnstile.waiting()
                time.sleep(LOCK_POLL_S)
            else:
                return


def _tell(jobs: list[_Job]) -> None:
    """Wake each waiting loop once. A loop that has been closed has nobody waiting in it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _shown(error: Exception) -> Exception:
    """As the caller sees it: database errors translated with their cause, anything else as it is."""
    if not isinstance(error, SQLAlchemyError | sqlite3.Error):
        return error
    shown = translate(error)
    shown.__cause__ = error
    return shown


def _close(held: Connection | None) -> None:
    if held is not None:
        held.close()


def _on_snapshot(conn: Connection, operation: Operation[T]) -> T:
    raw = driver(conn)
    raw.execute("BEGIN")
    try:
        return operation(conn)
    finally:
        if raw.in_transaction:
            raw.execute("COMMIT")


def _run_undoable(conn: Connection, raw: sqlite3.Connection, job: _Job) -> None:
    raw.execute("SAVEPOINT job")
    try:
        job.result = job.operation(conn)
    except Exception as error:
        if not raw.in_transaction:
            raise
        job.error = _shown(error)
        raw.execute("ROLLBACK TO SAVEPOINT job")
    raw.execute("RELEASE SAVEPOINT job")
