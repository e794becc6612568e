"""Tables of docs/storage.md, made from the declarations that the adapters apply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Table, UniqueConstraint

from chatkernel.storage.mongo.schema import COLLECTIONS, CollectionSpec
from chatkernel.storage.sql.schema import metadata
from chatoperator.spec import MongoDb, PostgreSql
from docs.tools.notes import SQL_INDEXES, SQL_TABLES
from docs.tools.resource import fields_of
from docs.tools.samples import TEXT_BYTES, Sample, Scenario, scenario
from docs.tools.tables import rows_of


@cache
def observed() -> Scenario:
    """Of this run, once."""
    return asyncio.run(scenario())


def storage_tables() -> dict[str, str]:
    """Block name to Markdown."""
    return {
        "mongo-collections": collection_table(),
        "mongo-indexes": index_table(),
        "mongo-bytes": byte_table(),
        "mongo-growth": growth_table(),
        "sql-tables": sql_table(),
        "sql-indexes": sql_index_table(),
        "storage-settings": setting_table(),
    }


def collection_table() -> str:
    samples = observed().samples
    rows = [
        (
            f"`{spec.name}`",
            spec.holds,
            f"`{spec.shard_key}`" + (f" ({spec.by_id})" if spec.by_id else ""),
            _bytes(samples.get(spec.name)),
        )
        for spec in COLLECTIONS
    ]
    return rows_of(("collection", "holds", "shard key", "bytes per document"), rows)


def _bytes(sample: Sample | None) -> str:
    return "not measured" if sample is None else str(sample.document)


def index_table() -> str:
    return rows_of(
        ("collection", "index", "unique", "serves", "asks", "bytes of a key"),
        (row for spec in COLLECTIONS for row in _indexes(spec)),
    )


def _indexes(spec: CollectionSpec) -> Iterator[tuple[str, ...]]:
    sample = observed().samples.get(spec.name)
    one_shard = "one shard" if spec.shard_key == "_id" else ""
    yield f"`{spec.name}`", "`_id`", "yes", _by_id(spec), one_shard, _id_bytes(sample)
    for index in spec.indexes:
        size = "" if sample is None else str(sample.keys[index.name])
        yield (
            f"`{spec.name}`",
            f"`{', '.join(index.fields)}`",
            "yes" if index.unique else "",
            index.serves,
            "one shard" if index.fields[0] == spec.shard_key else "all shards",
            size,
        )


def _by_id(spec: CollectionSpec) -> str:
    return f"by {spec.by_id}" if spec.by_id else "nothing of ours (every collection has it)"


def _id_bytes(sample: Sample | None) -> str:
    return "" if sample is None else str(sample.identity)


def growth_table() -> str:
    """What a deployment is reckoned with."""
    samples = observed().samples
    whole = {name: sample.document + _keys(sample) for name, sample in samples.items()}
    person = whole["users"] + whole["claims"] + whole["settings"]
    device = whole["devices"] + 2 * whole["refresh_tokens"]
    rows = [
        (f"a message of {TEXT_BYTES} bytes of text", whole["events"]),
        ("a reaction (the event, and the reaction)", whole["events: reaction"] + whole["reactions"]),
        ("a channel (with the event that made it)", whole["channels"] + whole["events: created"]),
        ("a member of a channel", whole["memberships"]),
        ("a person (account, name, settings)", person),
        ("a device (with its refresh token, and the one before)", device),
        ("two friends", whole["pairs"]),
    ]
    return rows_of(("what", "bytes"), ((what, str(size)) for what, size in rows))


def _keys(sample: Sample) -> int:
    return sample.identity + sum(sample.keys.values())


def byte_table() -> str:
    """The document and the keys of all its indexes."""
    specs = {spec.name: spec for spec in COLLECTIONS}
    rows = []
    for name, sample in observed().samples.items():
        spec = specs[name.partition(":")[0]]
        keys = _keys(sample)
        rows.append((_kind_of(spec.name, name), str(sample.document), str(keys), str(sample.document + keys)))
    return rows_of(("one", "document", "its keys", "together"), rows)


def _kind_of(collection: str, name: str) -> str:
    if name == "events":
        return f"message of {TEXT_BYTES} bytes of text (`events`)"
    kind = name.partition(": ")[2]
    return f"`{kind}` event" if kind else f"`{collection}`"


def sql_table() -> str:
    return rows_of(
        ("table", "holds", "primary key", "refers to", "guarded by"),
        (
            (
                f"`{table.name}`",
                SQL_TABLES[table.name],
                f"`{', '.join(column.name for column in table.primary_key.columns)}`",
                ", ".join(sorted({f"`{name}`" for name in _parents(table)})),
                "; ".join(_guards(table)),
            )
            for table in metadata.sorted_tables
        ),
    )


def _parents(table: Table) -> Iterator[str]:
    for constraint in table.constraints:
        if isinstance(constraint, ForeignKeyConstraint):
            yield constraint.referred_table.name


def _guards(table: Table) -> list[str]:
    everywhere = [*table.constraints, *(each for column in table.columns for each in column.constraints)]
    checks = {str(each.sqltext) for each in everywhere if isinstance(each, CheckConstraint)}
    return [f"`{check}`" for check in sorted(checks)]


def sql_index_table() -> str:
    rows: list[tuple[str, ...]] = []
    for table in metadata.sorted_tables:
        unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
        for constraint in unique:
            columns = ", ".join(column.name for column in constraint.columns)
            rows.append((f"`{table.name}`", f"`{columns}`", "yes", "", SQL_INDEXES[table.name, columns]))
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            columns = ", ".join(column.name for column in index.columns)
            where = next(
                (
                    str(options["where"])
                    for options in index.dialect_options.values()
                    if options.get("where") is not None
                ),
                "",
            )
            only = f"`{where}`" if where else ""
            rows.append(
                (
                    f"`{table.name}`",
                    f"`{columns}`",
                    "yes" if index.unique else "",
                    only,
                    SQL_INDEXES[table.name, columns],
                )
            )
    return rows_of(("table", "index", "unique", "only where", "serves"), rows)


def setting_table() -> str:
    fields = [*fields_of("spec.mongodb", MongoDb), *fields_of("spec.postgresql", PostgreSql)]
    rows = [
        (f"`{field.path}`", field.words, field.default or "none") for field in fields if not field.is_part
    ]
    return rows_of(("setting", "of what", "default"), rows)
