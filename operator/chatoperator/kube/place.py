"""Kubernetes as a place for chat pods: bare Pods owned by their ChatCluster, each under a name of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from chatkernel.registry import PodEntry
from chatoperator.kube.cache import Cache
from chatoperator.kube.children import remove
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import Conflict, NotFound
from chatoperator.kube.kinds import NODE, POD, Object, annotations_of, labels_of, name_of, owner_uids, uid_of
from chatoperator.kube.orders import PodLine
from chatoperator.kube.podview import (
    PodMemory,
    Surroundings,
    ip_of,
    is_alive,
    is_stopping,
    node_of,
    rfc3339,
    unix_s,
    view_of,
)
from chatoperator.kube.refusals import Refusals
from chatoperator.kube.revisions import Revisions
from chatoperator.manifests import chatpod
from chatoperator.manifests.inputs import Owner
from chatoperator.manifests.names import CHAT, DRAIN, GROUP, LABEL_COMPONENT, LIVE
from chatoperator.manifests.settings import live_hash
from chatoperator.model import PodView
from chatoperator.place import DrainOrder, PlaceError, PodSpec

FORGOTTEN = f"{GROUP}/forgotten"
"""On a dead chat pod that stays for its log: it has been seen to."""
DEAD_KEPT = 1
"""Dead pods of a cluster that stay, the newest ones: what they wrote last says why they died."""
NAME_CHARS = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own choice for such names: no words come out."""
RANDOM_CHARS = 5


UNTOLD_S = 60.0
"""Between two questions to a pod that has never said which run it is."""


class Delivery(Protocol):
    """What the prober says of one pod."""

    def of(self, pod: str) -> tuple[bool | None, float | None]:
        """Whether it delivers (None: unknown), and if not, since when."""
        ...


class Whose(Struct, frozen=True):
    """The cluster whose pods these are."""

    namespace: str
    owner: Owner

    @property
    def name(self) -> str:
        return self.owner.name


class KubePlace:
    """Implements PlaceForPods, for one cluster. `entries` is what the registry last told, None while Redis is away;
    `token` is for orders to pods, "" while it is not known."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        whose: Whose,
        revisions: Revisions,
        delivery: Delivery,
        *,
        refusals: Refusals,
        changed: Callable[[], None],
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._client, self._cache, self._whose = client, cache, whose
        self._revisions, self._delivery, self._changed = revisions, delivery, changed
        self._refusals = refusals
        self._now, self._rng = now, rng or random.SystemRandom()
        self.entries: Mapping[str, PodEntry] | None = None
        self.token = ""
        self._memory: dict[str, PodMemory] = {}
        self._lines: dict[str, PodLine] = {}
        self._views: dict[str, PodView] = {}
        self.over: set[str] = set()
        """Names of pods that were told to end, or are no more: none of them may register again. Whoever has seen to
        that takes them out."""

    # -- the port

    def observe(self) -> list[PodView]:
        now = self._now()
        views = [self._view(pod, now) for pod in self.pods() if FORGOTTEN not in annotations_of(pod)]
        before, self._views = self._views, {view.name: view for view in views}
        for name in before:
            if name not in self._views:
                self._leave(name)
        return views

    async def start(self, pod: PodSpec) -> str:
        with self._refusals("start", pod.revision):
            return await self._start(pod)

    async def _start(self, pod: PodSpec) -> str:
        template = await self._revisions.template(pod.cluster, pod.revision)
        for _ in range(3):
            name = f"{self._whose.name}-{CHAT}-{pod.revision}-{self._random()}"
            try:
                manifest = chatpod.pod(template, name, self._whose.owner)
                manifest["metadata"].setdefault("annotations", {})[LIVE] = live_hash(pod.cluster)
                made = await self._client.create(manifest)
            except Conflict:  # the name was taken: there are fourteen million of them
                continue
            self._cache[POD].put(made)
            return name
        raise PlaceError("no free name for a pod")

    async def drain(self, name: str, order: DrainOrder) -> None:
        pod = self._pod(name)
        if DRAIN not in annotations_of(pod):
            pod = await self._annotate(pod, {DRAIN: rfc3339(self._now())})
        passed_s = self._now() - unix_s(annotations_of(pod)[DRAIN], self._now())
        body = {"deadline_s": max(1.0, order.deadline_s - passed_s), "rate_per_s": order.rate_per_s}
        self._order(pod, "/drain", body)

    async def undrain(self, name: str) -> None:
        pod = self._pod(name)

        async def heard() -> None:
            memory = self._memory[name]
            memory.told_since, memory.stays_from = None, memory.lease_until
            await self._annotate(pod, {DRAIN: None})

        self._order(pod, "/undrain", None, heard)

    async def shed(self, name: str, count: int, rate_per_s: float) -> None:
        if not self._order(self._pod(name), "/drain", {"shed": count, "rate_per_s": rate_per_s}):
            # The next plan asks for it again.
            raise PlaceError(f"{name} is still being told something else")

    async def stop(self, name: str, grace_s: float) -> None:
        """A pod that is to go at once gets a second all the same: with none the API server would forget it before
        its node has ended it."""
        pod = self._pod(name)
        if not is_stopping(pod):
            await remove(self._client, self._cache, POD, pod, max(1.0, grace_s))
            self.over.add(name)

    async def forget(self, name: str) -> None:
        """What is left of a pod that died by itself stays until the next one does, for its log."""
        pod = self._cache[POD].get(self._whose.namespace, name)
        if pod is not None and not is_alive(pod) and not is_stopping(pod):
            await self._annotate(pod, {FORGOTTEN: rfc3339(self._now())})
        self._views.pop(name, None)
        self._leave(name)

    # -- besides

    def pods(self) -> list[Object]:
        """The chat pods that are this cluster's, and not of one that had its name before."""
        return [
            pod
            for pod in self._cache[POD].of(self._whose.namespace, self._whose.name)
            if labels_of(pod).get(LABEL_COMPONENT) == CHAT and self._whose.owner.uid in owner_uids(pod)
        ]

    def ask(self) -> None:
        """Pods that drain, how many clients they still have: their entries tell it a second later, and not at all
        while Redis is away. And those whose entry is of a run that they have not told of, which run they are."""
        for view in self._views.values():
            pod = self._cache[POD].get(self._whose.namespace, view.name)
            if pod is None or not view.alive or not ip_of(pod):
                continue
            if view.drain_intent or self._is_doubtful(view.name):
                self._line(pod).ask(self._hears(view.name))

    async def clear_away(self) -> None:
        """All dead pods but the newest."""
        dead = [pod for pod in self.pods() if FORGOTTEN in annotations_of(pod) and not is_stopping(pod)]
        dead.sort(key=lambda pod: annotations_of(pod)[FORGOTTEN])
        for pod in dead[:-DEAD_KEPT]:
            await remove(self._client, self._cache, POD, pod)

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    # -- inside

    def _leave(self, name: str) -> None:
        self.over.add(name)
        self._memory.pop(name, None)
        line = self._lines.pop(name, None)
        if line is not None:
            line.close()

    def _view(self, pod: Object, now: float) -> PodView:
        name, entries = name_of(pod), self.entries
        delivers, undelivered_since = self._delivery.of(name)
        nodes = self._cache[NODE]
        around = Surroundings(
            entry=entries.get(name) if entries is not None else None,
            registry_known=entries is not None,
            node=nodes.get("", node_of(pod)),
            nodes_known=len(nodes) > 0,
            delivers=delivers,
            undelivered_since=undelivered_since,
        )
        return view_of(pod, self._memory.setdefault(name, PodMemory()), around, now)

    def _is_doubtful(self, name: str) -> bool:
        """Its entry is of another run than it has told of. One that never answers is not asked all the time."""
        entry = self.entries.get(name) if self.entries is not None else None
        memory, now = self._memory[name], self._now()
        if entry is None or entry.incarnation == memory.incarnation:
            return False
        if memory.incarnation:
            return True
        is_due = memory.asked_at is None or now - memory.asked_at >= UNTOLD_S
        memory.asked_at = now if is_due else memory.asked_at
        return is_due

    def _hears(self, name: str) -> Callable[[dict[str, Any]], None]:
        def heard(stats: dict[str, Any]) -> None:
            count, incarnation = stats.get("connections"), stats.get("incarnation")
            memory = self._memory.get(name)
            if memory is None:
                return
            if isinstance(incarnation, str):
                memory.incarnation, memory.told_at = incarnation, self._now()
            if isinstance(count, int):
                was, memory.connections, memory.counted_at = memory.connections, count, self._now()
                if was != 0 and count == 0:
                    self._changed()

        return heard

    def _pod(self, name: str) -> Object:
        pod = self._cache[POD].get(self._whose.namespace, name)
        if pod is None:
            raise PlaceError(f"no pod {name!r}")
        return pod

    async def _annotate(self, pod: Object, annotations: Mapping[str, str | None]) -> Object:
        """Only while it is that pod: the API server compares the UID."""
        body: Object = {"metadata": {"uid": uid_of(pod), "annotations": dict(annotations)}}
        try:
            changed = await self._client.patch(POD, self._whose.namespace, name_of(pod), body)
        except NotFound as error:
            raise PlaceError(f"{name_of(pod)} is gone") from error
        self._cache[POD].put(changed)
        return changed

    def _order(self, pod: Object, path: str, body: Any, then: Any = None) -> bool:
        self._client.guard()
        if not self.token:
            raise PlaceError("orders cannot be given before the signing keys are known")
        if not ip_of(pod):
            raise PlaceError(f"{name_of(pod)} has no address yet")
        return self._line(pod).order(path, body, self.token, then)

    def _line(self, pod: Object) -> PodLine:
        name = name_of(pod)
        if name not in self._lines:
            self._lines[name] = PodLine(name, ip_of(pod), self._changed)
        return self._lines[name]

    def _random(self) -> str:
        return "".join(self._rng.choice(NAME_CHARS) for _ in range(RANDOM_CHARS))
