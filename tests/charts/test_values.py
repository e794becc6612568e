"""The chart's values: every one is described by the schema, and what the schema does not know is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

CHART = Path(__file__).parents[2] / "charts" / "chatcluster"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

FREE = {
    "dashboards.labels",
    "nodeSelector",
    "affinity",
    "podAnnotations",
    "podLabels",
    "resources.limits",
    "resources.requests",
    "serviceAccount.annotations",
    "serviceMonitor.labels",
}
"""Objects with keys of a person's choice."""
SET_BY_PARENTS = {"global"}


def objects(value: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, value
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from objects(inner, f"{path}.{key}".lstrip("."))


def described(path: str) -> dict[str, Any]:
    schema = SCHEMA
    for key in path.split(".") if path else []:
        schema = schema["properties"][key]
        if "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def refusals(values: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_default_values_are_taken() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert refusals(VALUES) == []


@pytest.mark.parametrize("path", [path for path, _ in objects(VALUES) if path not in FREE])
def test_every_value_is_described_and_shown(path: str) -> None:
    """What can be set stands in values.yaml with its default, and an unknown key is refused at every level."""
    shown = dict(objects(VALUES))[path]
    schema = described(path)
    assert set(shown) == set(schema["properties"]) - SET_BY_PARENTS
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.repository", ""),
        ("image.tag", "a tag"),
        ("image.digest", "sha256:short"),
        ("image.pullPolicy", "Sometimes"),
        ("replicas", -1),
        ("replicas", "2"),
        ("watchNamespaces", ["chat", "chat"]),
        ("watchNamespaces", ["Chat"]),
        ("watchNamespaces", "chat"),
        ("logLevel", "LOUD"),
        ("networkPolicy.redisPorts", []),
        ("networkPolicy.redisPorts", [70_000]),
        ("serviceMonitor.interval", "30"),
        ("drill.users", 1),
        ("podAnnotations", {"number": 1}),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: object) -> None:
    values = copy.deepcopy(VALUES)
    place = values
    *outer, last = path.split(".")
    for key in outer:
        place = place[key]
    place[last] = value
    assert refusals(values)


def test_a_service_account_of_yours_needs_its_name() -> None:
    values = copy.deepcopy(VALUES)
    values["serviceAccount"]["create"] = False
    assert refusals(values)
    values["serviceAccount"]["name"] = "chat-operator"
    assert refusals(values) == []
