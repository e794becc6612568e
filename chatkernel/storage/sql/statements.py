"""Prepared statements of the hot paths: SQL text compiled once per dialect, many rows in one step.

Why many rows in one step: SQLite's driver gives up the interpreter lock around every step of a statement and must
win it back from a busy event loop, which then costs up to the switch interval (5 ms) per row. So there rows go in
as one VALUES list and come out as one JSON array. What PostgreSQL is given instead, `postgres_sql.py` says.
"""

# ruff: noqa: S608 - constants of this module are joined; values are always bound

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from chatkernel.storage.sql import postgres_sql
from chatkernel.storage.sql.postgres_sql import is_postgres

Row = postgres_sql.Row

LOOKUP_MAX_ROWS = 1024
"""Rows of one VALUES list in a lookup; more are looked up in several steps."""

WRITE_SIZES = (64, 16, 4, 1)
"""Rows per step of a write, so that any number of rows takes few steps of few different statements."""

_NOTHING: Mapping[str, Any] = {}
_rows = msgspec.json.Decoder(list[tuple[Any, ...]])
_lock = re.compile(r"\{lock \w+\}")
_ROWS_HERE = "/*rows*/"


def command(conn: Connection, sql: str) -> None:
    """A statement without parameters and rows, such as SAVEPOINT."""
    if is_postgres(conn):
        postgres_sql.command(conn, sql)
    else:
        conn.exec_driver_sql(sql)


def writers_meet(conn: Connection) -> bool:
    """Whether others may write while this transaction does, so that what it decides by has to be locked."""
    return is_postgres(conn)


def of_any_size(conn: Connection) -> bool:
    """Whether a statement is the same for any number of rows."""
    return is_postgres(conn)


def driver(conn: Connection) -> sqlite3.Connection:
    """The driver's own connection, of SQLite. What it raises are the driver's errors."""
    return cast(sqlite3.Connection, conn.connection.driver_connection)


class _Statement:
    """`template` has named parameters (:name). With `values`, the columns of the rows that go in: `{values}` is
    a table of them, `{columns}` and `{rows}` are the two parts of an INSERT. `{lock m}` at the end of a read locks
    the rows of `m`, where writers meet. A parameter that is not named after a column of the tables needs its type
    in `postgres_sql.py`."""

    def __init__(self, template: str, values: str = "") -> None:
        self._template, self._values = template, [name.strip() for name in values.split(",") if name]
        self._width = len(self._values)
        self._compiled: dict[tuple[str, int], tuple[str, tuple[str, ...]]] = {}

    def _text(self, conn: Connection, size: int) -> tuple[str, tuple[str, ...]]:
        """The driver's SQL for so many rows, and the names of the parameters that follow the rows, in order."""
        key = (conn.dialect.name, 0 if of_any_size(conn) else size)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = (
                postgres_sql.compiled(self._template, self._values)
                if of_any_size(conn)
                else self._compile(conn, size)
            )
        return found

    def _compile(self, conn: Connection, size: int) -> tuple[str, tuple[str, ...]]:
        """The rows are put into what SQLAlchemy made of the rest: a statement of 64 rows with a thousand named
        parameters took it 8 ms, while every client of the process waited."""
        columns = ", ".join(f"column{number} AS {name}" for number, name in enumerate(self._values, 1))
        source = _lock.sub("", self._template).replace(
            "{values}", f"(SELECT {columns} FROM (VALUES {_ROWS_HERE}) given)"
        )
        source = source.replace("{columns}", ", ".join(self._values)).replace("{rows}", _ROWS_HERE)
        compiled = text(self._wrap(source)).compile(dialect=conn.dialect)
        row = "(" + ", ".join("?" * self._width) + ")"
        return str(compiled).replace(_ROWS_HERE, ", ".join([row] * size)), tuple(compiled.positiontup or ())

    def _wrap(self, source: str) -> str:
        return source


class Query(_Statement):
    """A read. `columns` are the names of what it selects."""

    def __init__(self, columns: str, template: str, values: str = "") -> None:
        super().__init__(template, values)
        self._columns = columns

    def _wrap(self, source: str) -> str:
        return f"SELECT json_group_array(json_array({self._columns})) FROM ({source})"

    def rows(self, conn: Connection, params: Mapping[str, Any] = _NOTHING) -> list[Row]:
        return self._fetch(conn, 0, (), params)

    def row(self, conn: Connection, params: Mapping[str, Any] = _NOTHING) -> Row | None:
        found = self._fetch(conn, 0, (), params)
        return found[0] if found else None

    def rows_for(
        self, conn: Connection, values: Sequence[Row], params: Mapping[str, Any] = _NOTHING
    ) -> list[Row]:
        """Rows of the join with `values`. On SQLite the list is filled up with rows of nulls to a power of two."""
        if not values:
            return []
        if is_postgres(conn):
            return self._fetch(conn, 0, (postgres_sql.packed(values),), params)
        found: list[Row] = []
        for start in range(0, len(values), LOOKUP_MAX_ROWS):
            part = values[start : start + LOOKUP_MAX_ROWS]
            size = 1 << (len(part) - 1).bit_length()
            flat = tuple(chain.from_iterable(part)) + (None,) * ((size - len(part)) * self._width)
            found += self._fetch(conn, size, flat, params)
        return found

    def _fetch(self, conn: Connection, size: int, first: Row, params: Mapping[str, Any]) -> list[Row]:
        sql, names = self._text(conn, size)
        bound = (*first, *[params[name] for name in names])
        if is_postgres(conn):
            return postgres_sql.fetch(conn, sql, bound)
        # Straight to the driver: the result object around one value would cost more than the look-up.
        return _rows.decode(driver(conn).execute(sql, bound).fetchone()[0])


class Write(_Statement):
    """A change of rows. Each method answers how many rows were changed, and raises IntegrityError."""

    def run(self, conn: Connection, params: Mapping[str, Any] = _NOTHING) -> int:
        sql, names = self._text(conn, 0)
        return _execute(conn, sql, tuple([params[name] for name in names]))

    def run_for(self, conn: Connection, values: Sequence[Row]) -> int:
        """Apply to all rows of `values`, in few steps."""
        if not values:
            return 0
        if is_postgres(conn):
            return _execute(conn, self._text(conn, 0)[0], (postgres_sql.packed(values),))
        changed = 0
        for part in _parts(values):
            changed += _execute(conn, self._text(conn, len(part))[0], tuple(chain.from_iterable(part)))
        return changed

    def run_at_once(self, conn: Connection, values: Sequence[Row]) -> None:
        """Apply to all rows of `values` in one step, whatever their number. But for IntegrityError it raises the
        driver's own errors."""
        if is_postgres(conn):
            self.run_for(conn, values)
            return
        sql, _ = self._text(conn, len(values))
        try:
            driver(conn).execute(sql, tuple(chain.from_iterable(values)))
        except sqlite3.IntegrityError as error:
            raise IntegrityError(None, None, error, hide_parameters=True) from error


def _execute(conn: Connection, sql: str, bound: Row) -> int:
    if is_postgres(conn):
        return postgres_sql.execute(conn, sql, bound)
    return conn.exec_driver_sql(sql, bound).rowcount


def _parts(values: Sequence[Row]) -> Iterator[list[Row]]:
    rows, left = iter(values), len(values)
    for size in WRITE_SIZES:
        while left >= size:
            yield list(islice(rows, size))
            left -= size
