"""From a ChatCluster as the API server has it to the type that everything else works with. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chatoperator.facts import Finding
from chatoperator.kube.kinds import Object, annotations_of, labels_of, name_of, namespace_of
from chatoperator.reasons import Reason
from chatoperator.rules import Platform, broken_rules
from chatoperator.spec import API_VERSION, KIND, ChatCluster


class Reading(Struct, frozen=True):
    """`cluster` is None when nobody could make sense of the resource; `problem` says why it is refused."""

    cluster: ChatCluster | None
    problem: Finding | None = None


def read_resource(found: Object) -> Reading:
    """The API server has checked the same by its schema; that may be of another version, or too small a one."""
    plain = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name_of(found),
            "namespace": namespace_of(found),
            "labels": labels_of(found),
            "annotations": annotations_of(found),
        },
        "spec": found.get("spec") or {},
    }
    try:
        cluster = msgspec.convert(plain, ChatCluster)
    except msgspec.ValidationError as error:
        return Reading(None, Finding(Reason.INVALID_SPEC, str(error)))
    broken = broken_rules(cluster, Platform.KUBERNETES)
    if broken:
        return Reading(
            None, Finding(Reason.INVALID_SPEC, "; ".join(f"{path} {text}" for path, text in broken))
        )
    return Reading(cluster)
