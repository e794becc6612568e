"""Prepared statements in PostgreSQL's dialect, straight to asyncpg.

Many rows go in as one JSON array, so that a statement is the same, and planned once, whatever their number. Each
parameter is cast to the type of the column it is named after: the server would guess some of them wrong.
"""

# ruff: noqa: S608 - constants of the adapter are joined; values are always bound

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Boolean, Connection, Text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only

from chatkernel.storage.sql.postgres_errors import hide_values, is_refusal
from chatkernel.storage.sql.schema import metadata

Row = tuple[Any, ...]

_EXTRA_TYPES = {
    "id": "text",
    "after": "text",
    "on": "boolean",
    **dict.fromkeys(
        ("n", "at", "low", "high", "end", "limit", "others", "activity_id", "most", "upto"), "bigint"
    ),
}
"""Of the names that are no column's."""

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_LOCK = re.compile(r"\{lock (\w+)\}")

_EACH = " WHERE jsonb_typeof(cell) = 'array'"
"""True of each row. It is there for what the planner makes of it: that there is one row and not, as it has it of any
JSON, a hundred, for which it would read all of a table that is not much larger. Looked up one by one, any number of
rows takes its time and no more."""

_encode = msgspec.json.Encoder().encode


def is_postgres(conn: Connection) -> bool:
    return conn.dialect.name == "postgresql"


@cache
def _types() -> dict[str, str]:
    found = dict(_EXTRA_TYPES)
    for table in metadata.tables.values():
        for column in table.columns:
            kind = column.type
            found[column.name] = (
                "text" if isinstance(kind, Text) else "boolean" if isinstance(kind, Boolean) else "bigint"
            )
    return found


def compiled(template: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """asyncpg's SQL, and the names of the parameters in order. With `names`, the columns of the rows that go in,
    parameter $1 is `packed` rows."""
    types = _types()
    cells = ", ".join(f"(cell->>{place})::{types[name]} AS {name}" for place, name in enumerate(names))
    rows = "jsonb_array_elements($1::text::jsonb)"
    source = template.replace("{values}", f"(SELECT {cells} FROM {rows} AS given(cell){_EACH})")
    source = source.replace("{columns}", ", ".join(names)).replace(
        "VALUES {rows}",
        f"SELECT {cells} FROM {rows} WITH ORDINALITY AS given(cell, place) ORDER BY place",
    )
    order: list[str] = []
    first = 2 if names else 1

    def bound(found: re.Match[str]) -> str:
        name = found[1]
        if name not in order:
            order.append(name)
        return f"${order.index(name) + first}::{types[name]}"

    return _PARAMETER.sub(bound, _LOCK.sub(r"FOR UPDATE OF \1", source)), tuple(order)


def fetch(conn: Connection, sql: str, bound: Row) -> list[Row]:
    return [tuple(record) for record in _call(conn, "fetch", sql, *bound)]


def execute(conn: Connection, sql: str, bound: Row) -> int:
    """How many rows were changed."""
    return int(_call(conn, "execute", sql, *bound).rpartition(" ")[2])


def command(conn: Connection, sql: str) -> None:
    """SAVEPOINT and its like."""
    _call(conn, "execute", sql)


def _call(conn: Connection, method: str, *arguments: Any) -> Any:
    """Raises IntegrityError as SQLAlchemy does, and else the driver's own errors."""
    raw = conn.connection.driver_connection
    try:
        return await_only(getattr(raw, method)(*arguments))
    except Exception as error:
        hide_values(error)
        if is_refusal(error):
            raise IntegrityError(None, None, error, hide_parameters=True) from error
        raise


# --- text ----------------------------------------------------------------------------------------------------
# PostgreSQL's text holds any character but U+0000. So it and U+0001, by which it is told, are written as two.

_ESCAPED = re.compile("\x01([\x01\x02])")


def escaped(value: str) -> str:
    if "\0" not in value and "\x01" not in value:
        return value
    return value.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")


def unescaped(value: str) -> str:
    if "\x01" not in value:
        return value
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "\x01" else "\x01", value)


def packed(rows: Sequence[Row]) -> str:
    """Rows as the one parameter that they go in as."""
    encoded = _encode(rows)
    if b"\\u000" in encoded:
        encoded = _encode(
            [[escaped(value) if isinstance(value, str) else value for value in row] for row in rows]
        )
    return encoded.decode()
