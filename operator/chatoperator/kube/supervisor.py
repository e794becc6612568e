"""One task for each ChatCluster: begun when the resource is seen, woken when something of it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from chatoperator.kube.cache import Cache
from chatoperator.kube.kinds import (
    CHAT_CLUSTER,
    NODE,
    POD,
    SECRET,
    Kind,
    Object,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from chatoperator.kube.podview import node_of
from chatoperator.manifests.names import LABEL_CLUSTER

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a ChatCluster."""


class Tended(Protocol):
    """What tends one cluster."""

    uid: str
    """Of its resource."""

    def wake(self) -> None: ...

    def asks_for(self, secret: str) -> bool:
        """Whether the cluster's resource names this Secret."""
        ...

    async def run(self) -> None:
        """Until it is cancelled."""
        ...


T = TypeVar("T", bound=Tended)


class Supervisor(Generic[T]):
    """`tend` makes what tends a new cluster."""

    def __init__(self, cache: Cache, tend: Callable[[Key, str], T]) -> None:
        self._cache, self._tend = cache, tend
        self._running: dict[Key, tuple[T, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._nodes: dict[str, object] = {}
        cache.on_change(self._on_change)

    @property
    def clusters(self) -> Mapping[Key, T]:
        return {key: tended for key, (tended, _) in self._running.items()}

    async def run(self) -> None:
        """Until it is cancelled: then every task has ended, too."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._match()
        finally:
            await self._end(list(self._running))

    async def _match(self) -> None:
        """Tasks for the clusters that there are. One that was made anew under the same name is another one."""
        present = {
            (namespace_of(found), name_of(found)): uid_of(found) for found in self._cache[CHAT_CLUSTER].all()
        }
        await self._end([key for key, (tended, _) in self._running.items() if present.get(key) != tended.uid])
        for key, uid in present.items():
            if key not in self._running:
                tended = self._tend(key, uid)
                task = asyncio.create_task(tended.run(), name=f"cluster {'/'.join(key)}")
                self._running[key] = tended, task

    async def _end(self, keys: list[Key]) -> None:
        tasks = [self._running.pop(key)[1] for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, kind: Kind, changed: Object) -> None:
        namespace = namespace_of(changed)
        if kind == CHAT_CLUSTER:
            self._changed.set()
            self._wake((namespace, name_of(changed)))
        elif kind == NODE:
            self._on_node(changed)
        elif kind == SECRET:
            for key, (tended, _) in self._running.items():
                if key[0] == namespace and tended.asks_for(name_of(changed)):
                    tended.wake()
        else:
            self._wake((namespace, labels_of(changed).get(LABEL_CLUSTER, "")))

    def _on_node(self, changed: Object) -> None:
        """A node tells every few minutes that nothing has changed."""
        name = name_of(changed)
        says = None
        if self._cache[NODE].get("", name) is not None:
            says = (changed["spec"], changed["status"], labels_of(changed))
        before = self._nodes.pop(name, None)
        if says is not None:
            self._nodes[name] = says
        if before == says:
            return
        for pod in self._cache[POD].all():
            if node_of(pod) == name:
                self._wake((namespace_of(pod), labels_of(pod).get(LABEL_CLUSTER, "")))

    def _wake(self, key: Key) -> None:
        if key in self._running:
            self._running[key][0].wake()
