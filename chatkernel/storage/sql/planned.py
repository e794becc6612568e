"""What a database lacks of the tables, or has beside them: what is there, compared with what is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Index, Inspector, MetaData, Table, UniqueConstraint, inspect, text
from sqlalchemy.sql.elements import quoted_name

from chatkernel.storage.schema_step import SchemaStep, StepKind
from chatkernel.storage.sql.schema import TRIGGERS, make_triggers, metadata


@dataclass(frozen=True, slots=True)
class SqlStep:
    step: SchemaStep
    do: Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of an index, whatever its name."""

    columns: tuple[str | None, ...]
    unique: bool
    partial: bool


def differences(conn: Connection) -> list[SqlStep]:
    """Of a database that has this version's tables, in the order in which they are to be mended. Each is one
    statement in the caller's transaction: SQLite builds an index with all writers waiting."""
    inspector = inspect(conn)
    there = set(inspector.get_table_names())
    steps: list[SqlStep] = []
    drops: list[SqlStep] = []
    for table in metadata.sorted_tables:
        if table.name not in there:
            # An empty table in its place would hide that everything in it is gone.
            steps.append(_by_hand(f"table {table.name} is gone: restore a backup"))
            continue
        steps += _of_columns(inspector, table)
        made, extra = _of_indexes(inspector, table)
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


def _of_indexes(inspector: Inspector, table: Table) -> tuple[list[SqlStep], list[SqlStep]]:
    """What is to be made, and what is too much."""
    found = {
        str(each["name"]): _Shape(
            tuple(each["column_names"]),
            bool(each["unique"]),
            any(option.endswith("_where") for option in each.get("dialect_options", {})),
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
    partial = any(options.get("where") is not None for options in index.dialect_options.values())
    return _Shape(tuple(column.name for column in index.columns), bool(index.unique), partial)


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
        made.create(conn)

    return SqlStep(
        SchemaStep(StepKind.ADDS, f"create {unique}index {name} on {table.name} ({', '.join(columns)})"),
        do,
    )


def _drop(table: Table, name: str) -> SqlStep:
    def do(conn: Connection) -> None:
        quoted = conn.dialect.identifier_preparer.quote(name)
        conn.exec_driver_sql(f"DROP INDEX IF EXISTS {quoted}")

    return SqlStep(
        SchemaStep(StepKind.REMOVES, f"drop index {name} of {table.name}: it is not of this schema"), do
    )


def _of_triggers(conn: Connection) -> Iterator[SqlStep]:
    found = set(conn.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars())
    for name in TRIGGERS:
        if name not in found:
            yield SqlStep(SchemaStep(StepKind.ADDS, f"create trigger {name}"), make_triggers)


def _by_hand(wrong: str) -> SqlStep:
    return SqlStep(SchemaStep(StepKind.BY_HAND, wrong), lambda _: None)
