"""A revision changes exactly when the pods of it would be others: neither for nothing, nor too seldom."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import msgspec
import pytest
from support.manifest_samples import FULL, INPUTS, all_objects, chat_pod, cluster_of, of_kind

from chatoperator.manifests import chatpod
from chatoperator.manifests.inputs import Manifest, resolved
from chatoperator.model import PodKind
from chatoperator.revision import revision_of
from chatoperator.spec import ChatCluster, Spec

BASE: dict[str, Any] = {
    **copy.deepcopy(FULL),
    "mongodb": {**FULL["mongodb"], "tls": {}},
    "redis": {**FULL["redis"], "tls": {}},
}
"""Every part is there, so that each of its fields can be changed."""

ELSEWHERE = ("image", "chatPods.replicas", "apiPods.port", "media", "push")
"""`image` and `version` are changed below; the laptop's port is not Kubernetes'."""

NO_NEW_PODS = [
    ("chatPods.replicas", 7),
    ("chatPods.autoscaling", {"min": 1, "max": 3}),
    ("apiPods.replicas", 5),
    ("worker.replicas", 3),
    ("drain.deadlineSeconds", 11),
    ("drain.ratePerSecond", 11),
    ("rebalance.tolerance", 2),
    ("rollout.surge", 3),
    ("rollout.gate", False),
    ("limits.sendsPerS", 3),
    ("limits.textMaxBytes", 1000),
    ("auth.loginAttempts", 3),
    ("auth.requestsPerS", 3),
    ("deletionPolicy", "Keep"),
    ("observability", {"serviceMonitor": False}),
    ("exposure.ingress.annotations", {"a": "b"}),
    ("exposure.tls.secretName", "another"),
    ("mongodb.zones", []),
    ("pause", True),
]

NEW_CHAT_PODS = [
    ("image", "registry.example/chatcluster:3"),
    ("imagePullPolicy", "Always"),
    ("imagePullSecrets", []),
    ("version", "3"),
    ("region", "us"),
    ("chatPods.connectionsPerPod", 7),
    ("chatPods.helloTimeoutSeconds", 7),
    ("chatPods.leaseSeconds", 7),
    ("chatPods.env", []),
    ("chatPods.terminationGracePeriodSeconds", 90),
    *(
        (f"chatPods.pod.{field}", value)
        for field, value in {
            "annotations": {},
            "labels": {},
            "env": [],
            "resources": {},
            "nodeSelector": {},
            "tolerations": [],
            "affinity": {"nodeAffinity": {}},
            "topologySpread": [],
            "priorityClassName": "",
            "securityContext": {"runAsUser": 7},
            "serviceAccountName": "other",
        }.items()
    ),
    ("presence.heartbeatSeconds", 7),
    ("receipts.intervalSeconds", 7),
    ("auth.allowedOrigins", ["https://a.example"]),
    ("redis.keyPrefix", "other"),
    ("redis.urlFrom.secret.name", "other"),
    ("redis.tls", {"insecureSkipVerify": True}),
    ("mongodb.urlFrom.secret.key", "other"),
    ("mongodb.tls", {"caSecret": {"name": "a", "key": "b"}}),
    ("exposure.host", "other.example.com"),
]


def changed(path: str, value: Any, base: dict[str, Any] = BASE) -> ChatCluster:
    spec = copy.deepcopy(base)
    *parents, last = path.split(".")
    at = spec
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = value
    return cluster_of(spec)


def revision(cluster: ChatCluster) -> str:
    return revision_of(resolved(cluster, INPUTS).spec, PodKind.CHAT)


def rendered(cluster: ChatCluster) -> str:
    """A chat pod and its settings, but for the revision's own name."""
    objects = [chatpod.revision_objects(cluster, INPUTS), chat_pod(cluster)]
    return json.dumps(objects, sort_keys=True).replace(revision(cluster), "REVISION")


def templates(cluster: ChatCluster) -> dict[str, Manifest]:
    found = {
        name: one["spec"]["template"] for name, one in of_kind(all_objects(cluster), "Deployment").items()
    }
    return {**found, "chat": chat_pod(cluster)}


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of the resource with a value that it could be changed to."""
    if isinstance(value, dict) and value and not any("/" in key for key in value):
        return [leaf for key, one in value.items() for leaf in leaves(one, f"{path}.{key}" if path else key)]
    return [(path, value)]


def others(value: bool | float) -> list[Any]:
    """What it could be instead; one of them is within its bounds."""
    if isinstance(value, bool):
        return [not value]
    return [value + 1, value - 1] if isinstance(value, int) else [value * 0.9, value * 1.1]


def every_change() -> list[tuple[str, Any]]:
    whole = msgspec.to_builtins(msgspec.convert(BASE, Spec))
    found = [
        (path, next(one for one in others(value) if is_valid(path, one)))
        for path, value in leaves(whole)
        if isinstance(value, bool | int | float) and not path.startswith(ELSEWHERE)
    ]
    return [*found, *NO_NEW_PODS, *NEW_CHAT_PODS]


def is_valid(path: str, value: Any) -> bool:
    try:
        changed(path, value)
    except msgspec.ValidationError:
        return False
    return True


@functools.cache
def before() -> ChatCluster:
    return cluster_of(BASE)


@functools.cache
def templates_before() -> dict[str, Manifest]:
    return templates(before())


@pytest.mark.parametrize(("path", "value"), NO_NEW_PODS, ids=[path for path, _ in NO_NEW_PODS])
def test_a_change_of_this_makes_no_new_pods(path: str, value: Any) -> None:
    assert templates(changed(path, value)) == templates_before()


@pytest.mark.parametrize(("path", "value"), NEW_CHAT_PODS, ids=[path for path, _ in NEW_CHAT_PODS])
def test_a_change_of_this_makes_a_new_revision(path: str, value: Any) -> None:
    assert revision(changed(path, value)) != revision(before())


def test_the_revision_changes_exactly_when_the_pod_or_its_settings_do() -> None:
    changes = every_change()
    assert len(changes) > 80
    revision_before, rendered_before = revision(before()), rendered(before())
    for path, value in changes:
        after = changed(path, value)
        said = revision(after) != revision_before
        assert said == (rendered(after) != rendered_before), f"{path} = {value!r}"


def test_retention_and_the_accounts_rules_are_no_matter_of_chat_pods() -> None:
    for path, value in [
        ("retention.messages", "1h"),
        ("auth.ownAccounts", False),
        ("apiPods.pod.env", [{"name": "A"}]),
    ]:
        after = changed(path, value)
        assert revision(after) == revision(before()), path
        assert rendered(after) == rendered(before()), path
        assert templates(after)["talk-api"] != templates_before()["talk-api"], path
