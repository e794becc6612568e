"""What Ingresses and HTTPRoutes say: which paths of a host lead to which Service. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cluster.kit.api import Object


class Rule(NamedTuple):
    """`port`: by number or by name. `exact`: this path and none below it. `refused`: it asks for what is not known
    here, and must not be left out."""

    host: str
    path: str
    exact: bool
    service: str
    port: int | str
    refused: bool

    def takes(self, host: str, path: str) -> bool:
        below = not self.exact and path.startswith(self.path.rstrip("/") + "/")
        return host == self.host and (path == self.path or below)


def of_ingress(one: Object, name: str) -> Iterator[Rule]:
    """Those of one that has this class. What annotations mean is each controller's own; this one knows none."""
    spec = one["spec"]
    for rule in spec["rules"] if spec.get("ingressClassName") == name else []:
        for way in rule["http"]["paths"]:
            to = way["backend"]["service"]
            port = to["port"].get("number") or to["port"]["name"]
            yield Rule(rule["host"], way["path"], way["pathType"] == "Exact", to["name"], port, refused=False)


def of_route(one: Object, name: str) -> Iterator[Rule]:
    """Those of one that belongs to this Gateway. A rule with filters is refused, as the Gateway API asks for."""
    spec = one["spec"]
    belongs = any(parent["kind"] == "Gateway" and parent["name"] == name for parent in spec["parentRefs"])
    for rule in spec["rules"] if belongs else []:
        (to,) = rule["backendRefs"]
        for host in spec["hostnames"]:
            for path in (match["path"] for match in rule["matches"]):
                exact = path["type"] == "Exact"
                yield Rule(host, path["value"], exact, to["name"], to["port"], "filters" in rule)
