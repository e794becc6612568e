"""How SQLite and PostgreSQL do what the adapter sends, as they say it themselves.

Statements are taken where they leave for the database, from the drivers. SQLite is asked afterwards; PostgreSQL tells
its plans while it runs them (`auto_explain`), those of the triggers' own statements included.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

LOGS = {"events"}
"""Tables in which whoever looks up a channel alone reads all of its log."""

AUTO_EXPLAIN = (
    "session_preload_libraries = 'auto_explain'",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_nested_statements = on",
    "auto_explain.log_format = json",
    # To whoever runs the statement.
    "auto_explain.log_level = notice",
)
ONE_PLAN_FOR_ALL = "plan_cache_mode = force_generic_plan"
"""Not made for these very parameters: what the server takes once a statement was run often."""
INDEX_OR_NOTHING = ("enable_sort = off", "enable_hashjoin = off", "enable_mergejoin = off")
"""For tables so small that reading all of them is quick, too: then only a lost index makes it read or sort them."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A statement, the steps of its plan, and what is wrong with it."""

    statement: str
    steps: str
    faults: tuple[str, ...]


# --- SQLite --------------------------------------------------------------------------------------------------

_SOURCE = re.compile(
    r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?:AS\s+)?(?!SET\b|WHERE\b|CROSS\b|ORDER\b)(\w+))?", re.I
)
_SCAN = re.compile(r"SCAN (\w+)")
_SEARCH = re.compile(r"SEARCH (\w+) .*\((.*)\)$")
_SKIPPED = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA", "--")


class SqliteWatch:
    """What goes to the file of this path, once."""

    def __init__(self, path: Path) -> None:
        self._path, self._sent, self._known = path, list[str](), set[str]()

    def connected(self, connection: Any) -> None:
        connection.set_trace_callback(self._sent.append)

    def taken(self) -> list[Explained]:
        """Since the last time."""
        sent, self._sent[:] = list(dict.fromkeys(self._sent)), []
        with closing(sqlite3.connect(self._path)) as raw:
            tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found = [_explained(raw, each, tables) for each in sent if not each.startswith(_SKIPPED)]
            if any("INSERT INTO events" in each for each in sent):
                found += [_explained(raw, each, tables) for each in _trigger_statements(raw)]
        return found


def _trigger_statements(raw: sqlite3.Connection) -> Iterator[str]:
    """Which the plan of an insert does not show."""
    for (sql,) in raw.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"):
        body = re.sub(r"\bNEW\.\w+", "?", sql[sql.index("BEGIN") + 5 : sql.rindex("END")])
        yield from (part.strip() for part in body.split(";") if part.strip() and "RAISE" not in part)


def _explained(raw: sqlite3.Connection, sql: str, tables: set[str]) -> Explained:
    blank = (None,) * sql.count("?") if re.match(r"UPDATE \w+ SET \w+ = \?", sql) else ()
    steps = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", blank)]
    named = {alias or name: name for name, alias in _SOURCE.findall(sql) if name in tables}
    faults = []
    for step in steps:
        scan, search = _SCAN.match(step), _SEARCH.match(step)
        if scan is not None and scan[1] in named:
            faults.append(f"reads all of {named[scan[1]]}")
        if search is not None and named.get(search[1]) in LOGS and " AND " not in search[2]:
            faults.append(f"reads all of a channel in {named[search[1]]}")
        if "TEMP B-TREE" in step:
            faults.append("sorts")
    return Explained(_short(sql), "\n".join(steps), tuple(faults))


# --- PostgreSQL ----------------------------------------------------------------------------------------------


class PostgresWatch:
    """What the server says of its plans, in sessions with AUTO_EXPLAIN."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def connected(self, connection: Any) -> None:
        connection.driver_connection.add_log_listener(self._note)

    def _note(self, _connection: object, message: Any) -> None:
        _, _, plan = str(message.message).partition("plan:\n")
        if plan:
            self._said.append(plan)

    def taken(self) -> list[Explained]:
        """Since the last time."""
        said, self._said = list(dict.fromkeys(self._said)), []
        return [_of_plan(json.loads(each)) for each in said]


def _of_plan(said: dict[str, Any]) -> Explained:
    faults: list[str] = []
    steps: list[str] = []
    _walk(said["Plan"], 0, steps, faults)
    return Explained(_short(said["Query Text"]), "\n".join(steps), tuple(faults))


def _walk(node: dict[str, Any], depth: int, steps: list[str], faults: list[str]) -> bool:
    """Whether it gives rows of stored tables."""
    kind, table = node["Node Type"], node.get("Relation Name")
    condition = node.get("Index Cond") or node.get("Recheck Cond") or ""
    steps.append(f"{'  ' * depth}{kind} {table or ''} {node.get('Index Name', '')} {condition}".rstrip())
    stored = table is not None and kind != "ModifyTable"
    if stored and not condition:
        faults.append(f"reads all of {table}")
    elif stored and table in LOGS and " AND " not in condition:
        faults.append(f"reads all of a channel in {table}")
    for below in node.get("Plans", ()):
        stored |= _walk(below, depth + 1, steps, faults)
    if "Sort" in kind and stored:
        # The rows of a call itself may be put in order: they are few, however large the tables are.
        faults.append("sorts")
    return stored


@contextmanager
def listening(watch: SqliteWatch | PostgresWatch) -> Iterator[None]:
    """To all connections that SQLAlchemy makes within."""

    def connected(connection: Any, _record: object) -> None:
        watch.connected(connection)

    event.listen(Pool, "connect", connected)
    try:
        yield
    finally:
        event.remove(Pool, "connect", connected)


def _short(sql: str) -> str:
    return re.sub(r"\s+", " ", sql)[:400]
