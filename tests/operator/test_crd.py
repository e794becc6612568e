"""The schema that the API server gets: says what the types say, bounds everything, and takes the examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft4Validator
from support.resources import BROKEN, GOOD, resource, spec_of

from chatoperator.crd import crd, crd_text, resource_schema
from chatoperator.resource_object import cluster_of
from chatoperator.resource_status import ChatPodsStatus, Condition, ConditionType, Status, Truth
from chatoperator.rules import Platform
from chatoperator.spec import ChatCluster, Spec
from chatoperator.specfile import parse_cluster
from chatoperator.structural import schema_of

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SCHEMA = resource_schema()
SPEC: dict[str, Any] = SCHEMA["properties"]["spec"]


def objects(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas in it, with their paths."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield from objects(schema[key], f"{path}{mark}")


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """As the API server fills in what is absent."""
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in schema["properties"].items():
            if name not in value and "default" in inner:
                value[name] = inner["default"]
            if name in value:
                value[name] = defaulted(inner, value[name])
    if isinstance(value, list):
        return [defaulted(schema["items"], item) for item in value]
    return value


VALIDATOR = Draft4Validator(SCHEMA)


def refusals(value: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(value)]


def test_the_file_is_what_the_types_say() -> None:
    assert (ROOT / "crds" / "chatclusters.yaml").read_text(encoding="utf-8") == crd_text()
    assert yaml.load(crd_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) == crd()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_good(example: Path) -> None:
    manifest = yaml.safe_load(example.read_bytes())
    assert refusals(manifest) == []
    if example.name == "laptop.yaml":
        parse_cluster(example.read_bytes(), example.name)
        return
    strict = parse_cluster(example.read_bytes(), example.name, Platform.KUBERNETES)
    assert (
        strict == cluster_of(manifest) == cluster_of({**manifest, "spec": defaulted(SPEC, manifest["spec"])})
    )


def test_defaults_are_those_of_the_types() -> None:
    assert msgspec.convert(defaulted(SPEC, {}), Spec) == Spec()


def test_every_field_is_described_and_bounded() -> None:
    lacking = []
    for path, schema in objects(SPEC, "spec"):
        named = not path.endswith((".*", "[]"))
        if named and not schema.get("description", "").endswith("."):
            lacking.append(f"{path}: description")
        free = "x-kubernetes-preserve-unknown-fields" in schema
        bounds = {
            "string": ("enum", "maxLength"),
            "integer": ("maximum",),
            "number": ("maximum",),
            "array": ("maxItems",),
            "object": () if free or "properties" in schema else ("maxProperties",),
        }.get(schema.get("type", ""), ())
        if bounds and not any(bound in schema for bound in bounds):
            lacking.append(f"{path}: {bounds[-1]}")
    assert [each for each in lacking if not each.startswith(("spec.media: max", "spec.push: max"))] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"chatPods": {"replicas": 0}},
        {"chatPods": {"replicas": 1.5}},
        {"drain": {"deadlineSeconds": 0}},
        {"region": "EU"},
        {"imagePullPolicy": "Sometimes"},
        {"chatPods": {"pod": {"resources": {"limits": {"cpu": "many"}}}}},
        {"chatPods": {"pod": {"labels": {"a": "b c"}}}},
        {"exposure": {}},
        {"redis": {"urlFrom": {"secret": {"name": "a"}}}},
    ],
)
def test_what_the_types_refuse_the_schema_refuses(spec: dict[str, Any]) -> None:
    assert refusals(resource(spec_of(spec))) != []
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(spec_of(spec), Spec)


@pytest.mark.parametrize("spec", [*GOOD, *(broken.spec for broken in BROKEN)])
def test_rules_are_not_what_a_schema_without_them_refuses(spec: dict[str, Any]) -> None:
    """Each example breaks its rule and nothing else."""
    assert refusals(resource(spec_of(spec))) == []


def test_a_status_as_it_is_written_fits() -> None:
    condition = Condition(
        type=ConditionType.AVAILABLE,
        status=Truth.TRUE,
        reason="EnoughReadyPods",
        last_transition_time="2026-01-31T12:00:00Z",
    )
    status = Status(conditions=[condition], chat_pods=ChatPodsStatus(desired=2))
    kubernetes_words = schema_of(Status, is_status=True)
    told = msgspec.to_builtins(status)
    nulls = [name for name, value in told.items() if value is None]
    assert nulls and all(kubernetes_words["properties"][name]["nullable"] for name in nulls)
    written = {name: value for name, value in told.items() if value is not None}
    assert refusals({**resource(spec_of({})), "status": written}) == [
        "None is not of type 'integer'"  # Draft 4 knows no `nullable`: the connections are not known
    ]


def test_rules_stand_at_objects_that_are_there() -> None:
    with pytest.raises(LookupError, match=r"no objects at spec\.none"):
        schema_of(ChatCluster, validations={"spec.none": [{"rule": "true"}]})
