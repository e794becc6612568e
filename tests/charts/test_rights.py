"""The operator's rights as the chart has them: all that it needs, nothing else, and why."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

TEMPLATES = Path(__file__).parents[2] / "charts" / "chatcluster" / "templates"
RIGHTS = TEMPLATES / "_rights.tpl"
DEFINE = re.compile(r'\{\{- define "chatcluster\.(\w+)" -\}\}\n(.*?)\{\{- end -\}\}', re.DOTALL)
TEXTS = dict(DEFINE.findall(RIGHTS.read_text()))
WRITING = {"create", "update", "patch", "delete", "deletecollection"}


def rights(name: str) -> dict[tuple[str, str], set[str]]:
    """Verbs by API group and resource."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    rules: list[dict[str, Any]] = yaml.safe_load(TEXTS[name])
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found[group, resource] |= set(rule["verbs"])
    return dict(found)


def test_every_verb_has_its_reason() -> None:
    for text in TEXTS.values():
        verbs = re.findall(r"^  - (\w+)(.*)$", text, re.MULTILINE)
        assert verbs
        assert [verb for verb, rest in verbs if not re.match(r"\s+# \S", rest)] == []


def test_nothing_is_granted_by_a_star() -> None:
    for name in TEXTS:
        for (group, resource), verbs in rights(name).items():
            assert "*" not in {group, resource, *verbs}


def test_what_must_never_be_changed_cannot_be() -> None:
    """The spec of a resource is its owner's; Secrets hold everybody's keys; Roles lead to more."""
    granted = rights("rights")
    assert not granted["chatcluster.dev", "chatclusters"] & WRITING
    assert not granted["", "secrets"] & {"delete", "update", "deletecollection"}
    assert not rights("nodeRights")["", "nodes"] & WRITING
    groups = {group for name in TEXTS for group, _ in rights(name)}
    assert "rbac.authorization.k8s.io" not in groups
    assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & {resource for _, resource in granted}


def test_the_lease_of_a_release_is_its_own() -> None:
    """The one that the operator is told: with another release's it would stand by for ever."""
    of_release = '{{ include "chatcluster.name" . }}'
    rules: list[dict[str, Any]] = yaml.safe_load(TEXTS["leaseRights"])
    assert [rule["resourceNames"] for rule in rules if "resourceNames" in rule] == [[of_release]]
    told = (TEMPLATES / "deployment.yaml").read_text()
    assert f"- name: CHAT_LEASE\n          value: {of_release}\n" in told
