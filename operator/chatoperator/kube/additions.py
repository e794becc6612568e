"""What others have added to an object of ours, and the merge patch that takes it away. Pure.

Server-side apply sets the fields that it names, and leaves what anybody else has set beside them: another argument,
a sidecar, a rule that lets everybody in. What the API server sets by itself is known by its value. Where it is not
known here (of a newer Kubernetes), the patch changes nothing, since the API server sets it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatoperator.kube.kinds import DEPLOYMENT, NETWORK_POLICY, PDB, SERVICE, Kind, Object

GUARDED: frozenset[Kind] = frozenset({NETWORK_POLICY, SERVICE, DEPLOYMENT, PDB})
"""Kinds whose `spec` is wholly ours. Into ConfigMaps, Ingresses, routes and metadata others may write, and do."""

RESTARTED = "kubectl.kubernetes.io/restartedAt"
LEFT = frozenset({RESTARTED, "serviceAccount", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"})
"""Fields whose value is the API server's to choose; and the annotation by which `kubectl rollout restart` replaces
the pods of a Deployment, which harms nothing."""

DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "apiVersion": ("v1",),
    "defaultMode": (0o644,),
    "dnsPolicy": ("ClusterFirst",),
    "failureThreshold": (3,),
    "internalTrafficPolicy": ("Cluster",),
    "maxSurge": ("25%",),
    "maxUnavailable": ("25%",),
    "periodSeconds": (10,),
    "progressDeadlineSeconds": (600,),
    "protocol": ("TCP",),
    "restartPolicy": ("Always",),
    "revisionHistoryLimit": (10,),
    "schedulerName": ("default-scheduler",),
    "scheme": ("HTTP",),
    "sessionAffinity": ("None",),
    "successThreshold": (1,),
    "terminationGracePeriodSeconds": (30,),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "timeoutSeconds": (1,),
    "type": ("ClusterIP",),
}
"""What the API server sets where nobody says anything, by the field's name. Setting it by hand changes nothing."""


def additions(kind: Kind, live: Object, wanted: Object) -> Object:
    """Of a whole object; {}: nothing has been added. Lists are given back as they are to be."""
    if kind not in GUARDED:
        return {}
    found = _more(live.get("spec") or {}, wanted["spec"])
    return {"spec": found} if found else {}


def _more(live: Object, wanted: Object) -> Object:
    patch: Object = {}
    for key, value in live.items():
        ours = wanted.get(key)
        if isinstance(value, dict) and isinstance(ours, dict):
            nested = _more(value, ours)
            if nested:
                patch[key] = nested
        elif isinstance(value, list) and isinstance(ours, list):
            if _has_more(value, ours):
                patch[key] = ours
        elif ours is None and not _is_nothing(key, value):
            # With what is left in it, its others are taken out one by one.
            patch[key] = _more(value, {}) if isinstance(value, dict) and LEFT & value.keys() else None
    return patch


def _has_more(live: list[Any], wanted: list[Any]) -> bool:
    """Items are found by their name if they have one, as the API server merges most of them."""
    if len(live) > len(wanted):
        return True
    named = {item["name"]: item for item in live if isinstance(item, dict) and "name" in item}
    for index, ours in enumerate(wanted[: len(live)]):
        if isinstance(ours, dict):
            other = named.get(ours.get("name"), live[index])
            if isinstance(other, dict) and _more(other, ours):
                return True
    return False


def _is_nothing(key: str, value: Any) -> bool:
    """It is empty, or as it would be without anybody's doing."""
    if value in (None, {}, []) or key in LEFT or value in DEFAULTS.get(key, ()):
        return True
    return isinstance(value, dict) and all(_is_nothing(inner, each) for inner, each in value.items())
