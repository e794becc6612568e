"""All that the operator knows of the Kubernetes cluster, and whether that is of now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from chatoperator.kube.client import KubeClient, Selection
from chatoperator.kube.errors import ABSENT, Forbidden, KubeError
from chatoperator.kube.kinds import (
    CHAT_CLUSTER,
    CHILDREN,
    NODE,
    POD,
    SECRET,
    Kind,
    Object,
    annotations_of,
)
from chatoperator.kube.resources import Relisting
from chatoperator.kube.store import Changed, Store
from chatoperator.kube.watcher import SILENCE_S, Watcher
from chatoperator.manifests.names import GROUP, LABEL_MANAGED_BY, MANAGED_BY

APPLIED = f"{GROUP}/applied"
"""On every child: the hash of the manifest that was last applied."""
OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
STALE_S = SILENCE_S + 15.0
"""A watch that has said nothing for this long is not believed any more, even if nobody has noticed its end."""


def selections(namespaces: Sequence[str]) -> list[Selection]:
    """What is watched besides the ChatClusters: in all namespaces when none is named.

    Of Secrets only that they change: what is in those that a resource names is read one by one.
    """
    found = [Selection(NODE)]
    for namespace in namespaces or [""]:
        found += [
            Selection(POD, namespace, labels=OURS),
            Selection(SECRET, namespace, metadata_only=True),
        ]
        found += [Selection(kind, namespace, labels=OURS) for kind in CHILDREN]
    return found


class Cache:
    """Stores by kind, filled by `run`."""

    def __init__(
        self, client: KubeClient, namespaces: Sequence[str] = (), *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self.stores = {
            kind: Store(kind, TRIM.get(kind, without_managers))
            for kind in (CHAT_CLUSTER, POD, NODE, SECRET, *CHILDREN)
        }
        self.resources = [
            Relisting(client, namespace, self.stores[CHAT_CLUSTER], now=now)
            for namespace in namespaces or [""]
        ]
        self.watchers: list[Watcher | Relisting] = [
            Watcher(client, selection, self.stores[selection.kind], now=now)
            for selection in selections(namespaces)
        ]
        self.watchers += self.resources

    def __getitem__(self, kind: Kind) -> Store:
        return self.stores[kind]

    def on_change(self, told: Changed) -> None:
        for store in self.stores.values():
            store.changed = told

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for watcher in self.watchers:
                group.create_task(watcher.run(), name=f"watch {watcher.selection.kind.plural}")

    def is_current(self, namespace: str) -> bool:
        """Whether what is here of a namespace may be acted on: everything was listed, and no watch of it, or of all
        namespaces, is broken or silent."""
        return not any(map(self._is_stale, self._about(namespace)))

    def stale(self) -> int:
        """How many watches bring nothing now, of all namespaces."""
        return sum(self._is_stale(watcher) for watcher in self.watchers)

    def problem(self, namespace: str) -> KubeError | None:
        """Why it is not, if the API server said so: what it forbids before what it did not say."""
        about = self._about(namespace)
        problems = [watcher.problem for watcher in about if self._is_stale(watcher) and watcher.problem]
        problems.sort(key=lambda error: not isinstance(error, Forbidden))
        return problems[0] if problems else None

    def _about(self, namespace: str) -> list[Watcher | Relisting]:
        return [watcher for watcher in self.watchers if watcher.selection.namespace in ("", namespace)]

    def _is_stale(self, watcher: Watcher | Relisting) -> bool:
        if watcher.problem is not None:
            return not (watcher.selection.kind.optional and isinstance(watcher.problem, ABSENT))
        return not watcher.listed or self._now() - watcher.heard_at > STALE_S


def without_managers(whole: Object) -> Object:
    """Who owns which field is of no interest, and half of an object."""
    whole["metadata"].pop("managedFields", None)
    return whole


def _node(whole: Object) -> Object:
    """What says whether its pods can be counted on."""
    kept = {
        key: whole["metadata"][key]
        for key in ("name", "uid", "labels", "resourceVersion")
        if key in whole["metadata"]
    }
    spec, status = whole.get("spec") or {}, whole.get("status") or {}
    ready = [condition for condition in status.get("conditions") or [] if condition.get("type") == "Ready"]
    return {
        "metadata": kept,
        "spec": {"unschedulable": spec.get("unschedulable", False)},
        "status": {"conditions": [{"type": "Ready", "status": found.get("status")} for found in ready]},
    }


def _metadata(whole: Object) -> Object:
    """And of the annotations only ours: in another there may be all that a Secret holds."""
    wanted = ("name", "namespace", "uid", "labels", "ownerReferences", "resourceVersion")
    kept = {key: whole["metadata"][key] for key in wanted if key in whole["metadata"]}
    kept["annotations"] = {key: value for key, value in annotations_of(whole).items() if key == APPLIED}
    return {"metadata": kept}


TRIM: dict[Kind, Callable[[Object], Object]] = {NODE: _node, SECRET: _metadata}
