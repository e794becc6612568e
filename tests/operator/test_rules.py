"""Rules between fields: each is broken by an example, and told at its field. The API server is held to the same
examples in tests/cluster."""

from __future__ import annotations

from typing import Any

import pytest
from support.resources import BROKEN, CHANGES, GOOD, NAMES_THAT_CANNOT_BE, Broken, resource, spec_of

from chatoperator.resource_object import ResourceError, cluster_of
from chatoperator.rules import RULES, TRANSITIONS, Platform


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.field} {broken.text[:24]}")
def test_what_breaks_a_rule_is_refused_at_its_field(broken: Broken) -> None:
    with pytest.raises(ResourceError) as refused:
        cluster_of(resource(spec_of(broken.spec)))
    assert any(
        line.startswith(f"{broken.field} ") and broken.text in line for line in str(refused.value).split("; ")
    ), str(refused.value)


@pytest.mark.parametrize("spec", GOOD)
def test_what_breaks_none_is_taken(spec: dict[str, Any]) -> None:
    cluster_of(resource(spec_of(spec)))


@pytest.mark.parametrize("name", NAMES_THAT_CANNOT_BE)
def test_a_name_that_pods_could_not_be_called_after_is_refused(name: str) -> None:
    with pytest.raises(ResourceError):
        cluster_of(resource(spec_of({}), name))


def test_every_rule_of_the_api_server_has_an_example() -> None:
    told = {(broken.field, broken.text) for broken in BROKEN}
    without = [
        rule.path
        for rule in RULES
        if rule.cel and rule.at and Platform.KUBERNETES in rule.where
        if not any(field == rule.path and text in rule.text for field, text in told)
    ]
    assert without == []


def test_every_rule_about_changes_has_an_example() -> None:
    told = {(change.field, change.text) for change in CHANGES}
    assert all(any(field == each.path and text in each.text for field, text in told) for each in TRANSITIONS)


def test_a_field_of_a_newer_schema_does_not_hinder() -> None:
    """The schema is renewed before the operator, and gives its new defaults to every resource."""
    newer = spec_of({"chatPods": {"replicas": 3, "new": {"a": 1}}, "newer": True, "auth": {"issuers": None}})
    assert cluster_of({**resource(newer), "status": {"x": 1}}) == cluster_of(
        resource(spec_of({"chatPods": {"replicas": 3}}))
    )


def test_a_value_that_an_older_schema_let_in_is_told_with_its_field() -> None:
    with pytest.raises(ResourceError, match=r"spec.chatPods.replicas"):
        cluster_of(resource(spec_of({"chatPods": {"replicas": 0}})))
