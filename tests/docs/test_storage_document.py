"""docs/storage.md says what is: every read names an index, every option and concern that it tells of is there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chatkernel.errors import CATALOGUE
from chatkernel.storage.mongo.client import CONNECTING_MAX, OPERATION_TIMEOUT_MS, POOL_MAX
from chatkernel.storage.mongo.migration import INITIAL_CHUNKS
from chatkernel.storage.mongo.options import COMPRESSORS, KNOWN
from chatkernel.storage.mongo.schema import COLLECTIONS
from docs.tools.samples import Scenario, scenario

TEXT = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
SPECS = {spec.name: spec for spec in COLLECTIONS}


def filters(command: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Collection and filter of what a command looks for."""
    name = next(iter(command))
    if name in ("find", "distinct"):
        yield command[name], command.get("filter", command.get("query", {}))
    elif name == "count":
        yield command[name], command.get("query", {})
    elif name == "aggregate":
        yield command[name], command["pipeline"][0].get("$match", {})
    elif name in ("update", "delete"):
        for each in command["updates" if name == "update" else "deletes"]:
            yield command[name], each["q"]


def named_by(found: Mapping[str, Any]) -> set[str]:
    """Fields that the filter bounds, whatever of its alternatives is true."""
    fields = {name for name in found if not name.startswith("$")}
    if "$or" in found:
        fields |= set.intersection(*(named_by(each) for each in found["$or"]))
    return fields


def test_everything_that_is_looked_for_is_found_by_an_index() -> None:
    made: Scenario = asyncio.run(scenario())
    looked = [each for command in made.commands for each in filters(command) if each[0] in SPECS]
    assert len(looked) > 60
    for collection, wanted in looked:
        if (collection, wanted) == ("jobs", {}):
            continue  # an operator lists all of these few
        first = {index.fields[0] for index in SPECS[collection].indexes} | {"_id"}
        assert named_by(wanted) & first, (collection, wanted)
    assert {collection for collection, _ in looked} == set(SPECS)


def test_options_and_numbers_are_those_of_the_code() -> None:
    section = TEXT.partition("### Options of the URL")[2].partition("\n### ")[0]
    named = set(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE))
    assert len(named) > 12 and {name.lower() for name in named} <= KNOWN
    assert f"| `timeoutMS` | {OPERATION_TIMEOUT_MS} |" in section
    assert f"| `maxPoolSize` | {POOL_MAX} |" in section
    assert f"| `maxConnecting` | {CONNECTING_MAX} |" in section
    assert all(f"`{name}`" in section for name in COMPRESSORS)
    assert f"{2 * INITIAL_CHUNKS} pieces" in TEXT


def test_codes_of_the_fault_table_are_of_the_catalogue_and_retryable_where_it_says_so() -> None:
    section = TEXT.partition("## When it fails")[2].partition("\n## ")[0]
    codes = set(re.findall(r"\| `(storage_\w+|busy)`", section))
    assert codes == {"storage_unavailable", "storage_full", "busy", "storage_damaged"}
    lasting = {code.value for code in CATALOGUE if code.value in codes and not CATALOGUE[code].retryable}
    assert lasting == set(re.findall(r"but for `(\w+)`", section))
