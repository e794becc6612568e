"""The ChatClusters themselves, as kopf brings them.

kopf lists, watches, notices streams that went silent, and logs in again. Its handlers here only store and wake:
change handlers, timers and daemons would put a finalizer and annotations on the resource, and one with a finalizer
cannot be deleted once its operator is gone. What was deleted while a watch was interrupted kopf never tells: so now
and then a list of our own replaces what is known. Children are watched by `watcher.py`, since kopf knows no label
selectors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf

from chatoperator.again import Again
from chatoperator.kube.client import KubeClient, Selection
from chatoperator.kube.errors import ABSENT, KubeError
from chatoperator.kube.kinds import CHAT_CLUSTER, Object, name_of, namespace_of, version_of
from chatoperator.kube.store import Store
from chatoperator.manifests.names import FIELD_MANAGER, GROUP, PLURAL, VERSION

log = logging.getLogger(__name__)

RELIST_S = 45.0
"""Between two lists; more often than a watch's silence makes the cache stale."""
RETRY_S = 2.0
STREAM_S = 240
"""After about this long kopf begins a watch anew. A whole number: the API server takes no other."""
LOOK_S = 1.0
"""How often is looked whether other namespaces can be listed than before."""
STOP_S = 5.0
"""How long its end is waited for."""
IDENTITY: Any = FIELD_MANAGER
"""For kopf's peering, which is not used. Without one it asks for the user's name: a container has none."""


class Relisting:
    """One namespace's ChatClusters, or all: what is known of the namespace is current while its list is."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        store: Store,
        *,
        now: Callable[[], float] = time.monotonic,
        relist_s: float = RELIST_S,
    ) -> None:
        self.selection = Selection(CHAT_CLUSTER, namespace)
        self._client, self.store, self._now, self._relist_s = client, store, now, relist_s
        self.heard_at = -1e9
        self.listed = False
        self.problem: KubeError | None = None
        self._at_once = asyncio.Event()

    def is_allowed(self) -> bool:
        """As far as was last heard: the kind is there, and may be seen."""
        return self.listed and not isinstance(self.problem, ABSENT)

    def relist(self) -> None:
        """At once, and not when it is time."""
        self._at_once.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._at_once.clear()
            try:
                items, since = await self._client.list(self.selection)
            except KubeError as error:
                if self.problem is None:
                    log.warning("list failed", extra={"kind": CHAT_CLUSTER.name, "error": str(error)})
                self.problem = error
                await asyncio.sleep(RETRY_S)
            else:
                self.store.replace(self.selection.namespace, items, int(since))
                self.heard_at, self.problem, self.listed = self._now(), None, True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._relist_s):
                        await self._at_once.wait()


def log_in_as_the_process() -> kopf.ConnectionInfo | None:
    """As the ServiceAccount of the pod, or by the kubeconfig."""
    settings = kopf.OperatorSettings()
    return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)


async def hear(
    resources: Sequence[Relisting],
    *,
    log_in: Callable[[], kopf.ConnectionInfo | None] = log_in_as_the_process,
) -> None:
    """Until it is cancelled. kopf looks for the kind once, when it starts, and ends altogether when it may not list
    one of its namespaces: so it is given those that can be listed, and begun anew when these are others."""
    again = Again()
    while True:
        allowed = [each for each in resources if each.is_allowed()]
        if allowed:
            with again("hearing of ChatClusters"):
                await _hear_of(allowed, resources, log_in)
        await asyncio.sleep(LOOK_S)


async def _hear_of(
    allowed: list[Relisting],
    resources: Sequence[Relisting],
    log_in: Callable[[], kopf.ConnectionInfo | None],
) -> None:
    """Returns when others are allowed now. Raises what kopf ends with by itself."""
    named = [each.selection.namespace for each in allowed if each.selection.namespace]
    hearing = asyncio.create_task(_run_kopf(named, allowed[0].store, log_in), name="kopf")
    try:
        while not hearing.done() and [each for each in resources if each.is_allowed()] == allowed:
            await asyncio.wait([hearing], timeout=LOOK_S)
        if hearing.done():
            for each in allowed:  # most likely one of them is allowed no more
                each.relist()
            hearing.result()
            raise KubeError("kopf ended by itself")
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _run_kopf(
    namespaces: Sequence[str], store: Store, log_in: Callable[[], kopf.ConnectionInfo | None]
) -> None:
    """Until it is cancelled, or ends by itself. kopf gets a thread and a loop of its own: when it ends it takes every
    task of its loop for its own, and in the main thread it takes the signals. What it heard is put into the store by
    this loop."""
    loop, stop = asyncio.get_running_loop(), threading.Event()
    registry = _registry(store, loop, log_in)
    logging.getLogger("kopf").setLevel(logging.ERROR)

    def work() -> None:
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=kopf.OperatorSettings(),
                standalone=True,  # the Lease decides who acts, not kopf's peering
                identity=IDENTITY,
                clusterwide=not namespaces,
                namespaces=namespaces,
                stop_flag=stop,
            )
        )

    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    finally:
        stop.set()
        await asyncio.wait([working], timeout=STOP_S)


def _registry(
    store: Store, loop: asyncio.AbstractEventLoop, log_in: Callable[[], kopf.ConnectionInfo | None]
) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # our own events tell the story in words
        settings.scanning.disabled = True  # needs no right to watch namespaces and resource definitions
        settings.watching.server_timeout = STREAM_S

    @kopf.on.login(registry=registry)
    async def come_in(**_: Any) -> kopf.ConnectionInfo | None:
        return log_in()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def heard(event: Mapping[str, Any], **_: Any) -> None:
        whole: Object = {**event["object"], "metadata": {**event["object"]["metadata"]}}
        if event["type"] == "DELETED":
            loop.call_soon_threadsafe(store.drop, namespace_of(whole), name_of(whole), version_of(whole))
        else:
            loop.call_soon_threadsafe(store.put, whole)

    return registry
