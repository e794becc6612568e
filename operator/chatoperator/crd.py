"""The CustomResourceDefinition of `ChatCluster`, from the types and the rules. `make docs` writes it to `crds/`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import yaml

from chatoperator.manifests.names import GROUP, PLURAL, VERSION
from chatoperator.resource_status import Status
from chatoperator.rules import RULES, TRANSITIONS, Platform, Rule, Transition
from chatoperator.spec import KIND, ChatCluster
from chatoperator.structural import Schema, schema_of, sentence

HEAD = (
    "# Made by `make docs` from operator/chatoperator/spec.py, rules.py and resource_status.py: edit those.\n"
)

COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("Phase", "string", ".status.phase", "The state in one word"),
    ("Ready", "integer", ".status.chatPods.ready", "Chat pods that take connections"),
    ("Desired", "integer", ".status.chatPods.desired", "Chat pods that there are to be"),
    ("Connections", "integer", ".status.chatPods.connections", "Connections to all of them"),
    ("Draining", "integer", ".status.chatPods.draining", "Chat pods that move their clients away"),
    ("Version", "string", ".status.version", "The release that the current revision runs"),
    ("Age", "date", ".metadata.creationTimestamp", "Since it was made"),
)
"""Name, type, JSON path, description: what `kubectl get` shows."""


def crd_text() -> str:
    """The file."""
    return HEAD + yaml.dump(
        crd(), Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True, default_flow_style=False
    )


class _Plain(yaml.SafeDumper):
    """Without anchors: whoever reads the file need not look anything up."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["chat"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": sentence(words)}
                        for name, kind, path, words in COLUMNS
                    ],
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.chatPods.replicas",
                            "statusReplicasPath": ".status.chatPods.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": resource_schema()},
                }
            ],
        },
    }


def resource_schema() -> Schema:
    """Of the whole object. What Kubernetes itself knows of it (kind, metadata) is left to it."""
    whole = schema_of(ChatCluster, validations=validations())
    whole["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "status": schema_of(Status, is_status=True),
    }
    # What a laptop has by default has to be named there: rules say so, which a default would break.
    spec = whole["properties"]["spec"]
    del spec["default"], spec["properties"]["redis"]["default"]
    whole["required"] = ["spec"]
    return whole


def validations() -> dict[str, list[Schema]]:
    """The rules that the API server checks, by the path of the object that each stands at."""
    made = defaultdict(list)
    for rule in RULES:
        if rule.cel and Platform.KUBERNETES in rule.where:
            made[rule.at].append(_validation(rule, "FieldValueInvalid"))
    for transition in TRANSITIONS:
        made[transition.at].append(_validation(transition, "FieldValueForbidden"))
    return dict(made)


def _validation(rule: Rule | Transition, reason: str) -> Schema:
    made = {"rule": rule.cel, "message": rule.text, "reason": reason}
    if not rule.at:  # `metadata` is not in the schema, so no path can name it
        made["message"] = f"{rule.field} {rule.text}"
    elif rule.field:
        made["fieldPath"] = f".{rule.field}"
    return made
