"""What a database lacks of the tables, or has beside them: what is there, compared with what is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import (
    Connection,
    Index,
    Inspector,
    MetaData,
    Table,
    UniqueConstraint,
    create_engine,
    inspect,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import quoted_name

from chatkernel.errors import ChatError, Code
from chatkernel.storage.schema_step import SchemaStep, StepKind
from chatkernel.storage.sql.postgres_errors import hide_values
from chatkernel.storage.sql.schema import TRIGGERS, metadata

_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'",
}
_UNFINISHED = """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND pg_table_is_visible(i.indrelid)"""
"""Indexes whose building was broken off: PostgreSQL keeps them, and uses them for nothing."""


@dataclass(frozen=True, slots=True)
class SqlStep:
    step: SchemaStep
    do: Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of an index, whatever its name."""

    columns: tuple[str | None, ...]
    unique: bool
    only_some: bool
    whole: bool = True


def differences(conn: Connection) -> list[SqlStep]:
    """Of a database that has this version's tables, in the order in which they are to be mended. Each is one
    statement: SQLite builds an index with all writers waiting, PostgreSQL beside them, outside of a transaction."""
    inspector = inspect(conn)
    unfinished = (
        set(conn.execute(text(_UNFINISHED)).scalars()) if conn.dialect.name == "postgresql" else set()
    )
    there = set(inspector.get_table_names())
    steps: list[SqlStep] = []
    drops: list[SqlStep] = []
    for table in metadata.sorted_tables:
        if table.name not in there:
            # An empty table in its place would hide that everything in it is gone.
            steps.append(_by_hand(f"table {table.name} is gone: restore a backup"))
            continue
        steps += _of_columns(inspector, table)
        made, extra = _of_indexes(inspector, table, unfinished)
        steps += made
        drops += extra
    steps += _of_triggers(conn)
    return steps + drops


def _of_columns(inspector: Inspector, table: Table) -> Iterator[SqlStep]:
    found = {column["name"] for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name not in found:
            yield _by_hand(f"column {column.name} of table {table.name} is gone: restore a backup")
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    if set(key) != {column.name for column in table.primary_key.columns}:
        yield _by_hand(f"table {table.name} has another primary key ({', '.join(key)}): restore a backup")
    unique = {tuple(each["column_names"]) for each in inspector.get_unique_constraints(table.name)}
    for constraint in table.constraints:
        if not isinstance(constraint, UniqueConstraint):
            continue
        columns = tuple(column.name for column in constraint.columns)
        if columns not in unique:
            yield _by_hand(f"table {table.name} does not keep {', '.join(columns)} unique: restore a backup")


def _of_indexes(
    inspector: Inspector, table: Table, unfinished: set[str]
) -> tuple[list[SqlStep], list[SqlStep]]:
    """What is to be made, and what is too much."""
    found = {
        str(each["name"]): _Shape(
            tuple(each["column_names"]),
            bool(each["unique"]),
            any(option.endswith("_where") for option in each.get("dialect_options", {})),
            each["name"] not in unfinished,
        )
        for each in inspector.get_indexes(table.name)
        if not each.get("duplicates_constraint")
    }
    wanted = {str(index.name): (index, _shape(index)) for index in table.indexes}
    made = [
        _create(index, _free_name(name, found))
        for name, (index, shape) in sorted(wanted.items())
        if shape not in found.values()
    ]
    shapes = {shape for _, shape in wanted.values()}
    return made, [_drop(table, name) for name, shape in found.items() if shape not in shapes]


def _shape(index: Index) -> _Shape:
    only_some = any(options.get("where") is not None for options in index.dialect_options.values())
    return _Shape(tuple(column.name for column in index.columns), bool(index.unique), only_some)


def _free_name(name: str, there: dict[str, _Shape]) -> str:
    """Another one beside an index that was changed: so the right one is there before the wrong one goes."""
    number, free = 1, name
    while free in there:
        number += 1
        free = f"{name}_{number}"
    return free


def _create(index: Index, name: str) -> SqlStep:
    columns = [column.name for column in index.columns]
    unique = "unique " if index.unique else ""
    table = index.table
    if table is None:
        raise TypeError(f"{name} is an index of no table")

    def do(conn: Connection) -> None:
        copy = table.to_metadata(MetaData())
        made = next(each for each in copy.indexes if each.name == index.name)
        made.name = quoted_name(name, quote=None)
        made.dialect_options["postgresql"]["concurrently"] = True
        try:
            made.create(conn)
        except IntegrityError as error:
            hide_values(error)
            raise ChatError(
                Code.STORAGE_UNAVAILABLE,
                f"The unique index {name} on {table.name} cannot be made: some rows have the same "
                f"{', '.join(columns)}. Remove the wrong ones, or restore a backup",
            ) from error

    return SqlStep(
        SchemaStep(StepKind.ADDS, f"create {unique}index {name} on {table.name} ({', '.join(columns)})"),
        do,
    )


def _drop(table: Table, name: str) -> SqlStep:
    def do(conn: Connection) -> None:
        quoted = conn.dialect.identifier_preparer.quote(name)
        beside = "CONCURRENTLY " if conn.dialect.name == "postgresql" else ""
        conn.exec_driver_sql(f"DROP INDEX {beside}IF EXISTS {quoted}")

    return SqlStep(
        SchemaStep(StepKind.REMOVES, f"drop index {name} of {table.name}: it is not of this schema"), do
    )


def _of_triggers(conn: Connection) -> Iterator[SqlStep]:
    dialect = conn.dialect.name
    found = set(conn.execute(text(_TRIGGERS[dialect])).scalars())
    for name in TRIGGERS[dialect]:
        if name in found:
            continue
        if dialect == "sqlite":
            yield SqlStep(
                SchemaStep(StepKind.ADDS, f"create trigger {name}"), partial(_make_trigger, name=name)
            )
        else:
            yield _by_hand(f"trigger {name} is gone: restore a backup")


def _make_trigger(conn: Connection, name: str) -> None:
    """As the revisions leave it."""
    # Late: it is seldom that one is gone.
    from chatkernel.storage.sql.migrations import upgrade

    with create_engine("sqlite://").connect() as fresh:
        upgrade(fresh, 0)
        wanted = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = :name")
        statement = fresh.execute(wanted, {"name": name}).scalar_one()
    conn.exec_driver_sql(statement)


def _by_hand(wrong: str) -> SqlStep:
    return SqlStep(SchemaStep(StepKind.BY_HAND, wrong), lambda _: None)
