"""The restricted Pod Security standard, and what a person lays over it."""

from __future__ import annotations

from typing import Any

from chatoperator.manifests.inputs import Manifest

USER_ID = 65_532
"""Of user and group: any but root's will do, and a fixed one lets the group of mounted Secrets be set."""

SECRET_MODE = 0o440
"""Of mounted Secrets: for the group, which the pod's user is in."""

_OF_CONTAINERS = frozenset(
    {"allowPrivilegeEscalation", "capabilities", "privileged", "procMount", "readOnlyRootFilesystem"}
)
"""Fields that only a container's context has; the rest are the pod's, which its container inherits."""


def pod_context(laid_over: Manifest) -> Manifest:
    own = {key: value for key, value in laid_over.items() if key not in _OF_CONTAINERS}
    restricted: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {**restricted, **without_nulls(own)}


def container_context(laid_over: Manifest) -> Manifest:
    own = {key: value for key, value in laid_over.items() if key in _OF_CONTAINERS}
    restricted: Manifest = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {**restricted, **without_nulls(own)}


def without_nulls(value: Any) -> Any:
    """What a person wrote freely, without what means nothing: the API server does not keep it, so that it would be
    seen as a difference for ever."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value if one is not None]
    return value
