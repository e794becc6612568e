"""A ChatCluster on the small API server, with a real Valkey: pods become ready when the test's kubelet says so."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from support.kube_api import KubeApi, Object, eventually
from support.valkey import Valkey, redis_client

from chatkernel.keys import Keys
from chatkernel.redis_client import execute
from chatkernel.registry import PodEntry, PodState, Registry
from chatoperator.kube.cache import Cache
from chatoperator.kube.cluster import ClusterTask
from chatoperator.kube.events import Events
from chatoperator.kube.metrics import Counts
from chatoperator.kube.resources import hear
from chatoperator.kube.revisions import LAST_GOOD
from chatoperator.kube.shared import Shared
from chatoperator.kube.supervisor import Supervisor
from chatoperator.manifests.inputs import DevelopmentImages
from chatoperator.manifests.names import DRAIN, LABEL_REVISION

CLUSTER = "/apis/chatcluster.dev/v1alpha1/namespaces/team/chatclusters/talk"
CORE = "/api/v1/namespaces/team"
SPEC = {
    "redis": {"urlFrom": {"secret": {"name": "stores", "key": "redis"}}},
    "postgresql": {"urlFrom": {"secret": {"name": "stores", "key": "postgresql"}}},
}


class World:
    """The resource `talk` in the namespace `team`, its operator, and the kubelet."""

    def __init__(self, api: KubeApi, valkey: Valkey, *, address: str = "127.0.0.1") -> None:
        self.api, self.valkey, self.address = api, valkey, address
        self.cache: Cache
        self.counts = Counts()
        self._revisions: dict[str, str] = {}

    # -- the person

    def secret(self, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.api.put(f"{CORE}/secrets/stores", {"data": data})

    def apply(self, **spec: Any) -> None:
        present = self.api.objects.get(CLUSTER, {})
        generation = present.get("metadata", {}).get("generation", 0) + 1
        content = {**present, "metadata": {"generation": generation}, "spec": {**SPEC, **spec}}
        self.api.put(CLUSTER, content)

    def resource(self) -> Object:
        return self.api.objects[CLUSTER]

    def put_status(self, status: Object) -> None:
        """As an operator of before has written it."""
        self.api.put(CLUSTER, {**self.api.objects[CLUSTER], "status": status})

    def mark_good(self) -> None:
        """As an operator of before has noted it: the only revision that there is ran well."""
        ((path, kept),) = [
            item
            for item in self.api.objects.items()
            if "/configmaps/" in item[0] and LABEL_REVISION in item[1]["metadata"]["labels"]
        ]
        kept["metadata"]["annotations"] = {LAST_GOOD: "2026-01-01T00:00:00Z"}
        self.api.put(path, kept)

    # -- the kubelet

    def chat_pods(self) -> dict[str, Object]:
        return {
            found["metadata"]["name"]: found
            for path, found in self.api.objects.items()
            if path.startswith(f"{CORE}/pods/")
            and found["metadata"]["labels"].get("app.kubernetes.io/component") == "chat"
        }

    def noted(self, names: list[str]) -> list[str]:
        """Of these pods those that are to go."""
        annotations = {name: self.chat_pods()[name]["metadata"].get("annotations") or {} for name in names}
        return [name for name in names if DRAIN in annotations[name]]

    async def run(self, name: str, *, ready: bool = True, connections: int = 0) -> None:
        """The pod has a node, and is registered if it is ready."""
        self.pod_status(name, ready=ready)
        if ready:
            await self.renew(name, connections=connections)

    def pod_status(self, name: str, *, ready: bool, phase: str = "Running") -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"{CORE}/pods/{name}"
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
        ]
        pod = self.api.objects[path]
        status = {"phase": phase, "podIP": self.address, "conditions": conditions}
        self.api.put(path, {**pod, "spec": {**pod["spec"], "nodeName": "n1"}, "status": status})

    async def renew(self, name: str, *, connections: int = 0, state: PodState = PodState.READY) -> bool:
        """Whether the registry has taken it."""
        if name in self.chat_pods():
            self._revisions[name] = self.chat_pods()[name]["metadata"]["labels"]["chatcluster.dev/revision"]
        revision = self._revisions[name]
        entry = PodEntry(name, "one", "ws://x", "local", revision, state, connections, 100, 1)
        async with self.registry() as registry:
            return (await registry.renew(entry, 60.0)).ok

    async def may_register(self, name: str) -> bool:
        """Also of a pod that Kubernetes does not know any more: a zombie."""
        return await self.renew(name)

    async def forge(self, entry: PodEntry) -> None:
        """Somebody writes it into Redis by hand, with a lease that does not end."""
        fields = (f"pod:{entry.name}", msgspec.json.encode(entry), f"lease:{entry.name}", 10**15)
        async with redis_client(self.valkey.url) as redis:
            await execute(redis, [("HSET", Keys("chat", "team/talk").registry, *fields)])

    async def registered(self) -> set[str]:
        async with self.registry() as registry:
            return {entry.name for entry in (await registry.snapshot()).entries}

    @contextlib.asynccontextmanager
    async def registry(self) -> AsyncIterator[Registry]:
        async with redis_client(self.valkey.url) as redis:
            yield Registry(redis, Keys("chat", "team/talk"))

    def finish_schema(self) -> None:
        for path, found in list(self.api.objects.items()):
            if "/jobs/" in path:
                self.api.put(path, {**found, "status": {"succeeded": 1}})

    # -- what is to be seen

    def status(self) -> Object:
        status: Object = self.api.objects[CLUSTER].get("status") or {}
        return status

    def condition(self, kind: str) -> Object:
        found = [one for one in self.status().get("conditions", []) if one["type"] == kind]
        return found[0] if found else {}

    def events(self) -> list[str]:
        return [found["note"] for path, found in self.api.objects.items() if "/events/" in path]

    def children(self, plural: str) -> set[str]:
        return {path.rpartition("/")[2] for path in self.api.objects if f"/{plural}/" in path}

    def objects(self, plural: str) -> list[Object]:
        return [found for path, found in self.api.objects.items() if f"/{plural}/" in path]

    async def chat_pods_are(self, count: int, within_s: float = 10.0) -> list[str]:
        await eventually(lambda: len(self.chat_pods()) == count, within_s)
        return sorted(self.chat_pods())


async def started(world: World, count: int = 2, **spec: Any) -> list[str]:
    """The names of the chat pods of a cluster that runs."""
    world.apply(**spec)
    await eventually(lambda: bool(world.children("jobs")))
    world.finish_schema()
    names = await world.chat_pods_are(count)
    for name in names:
        await world.run(name)
    await eventually(lambda: world.status().get("chatPods", {}).get("ready") == count)
    return names


@contextlib.asynccontextmanager
async def tended(
    world: World,
    trust: Path,
    *,
    image: str = "localhost/chatcluster:1",
    namespaces: Sequence[str] = ("team",),
) -> AsyncIterator[World]:
    """With the operator at work, as its leader; `image` is its own."""
    client = world.api.client()
    cache = Cache(client, namespaces)
    events = Events(client, "test")
    shared = Shared(
        client=client,
        cache=cache,
        events=events,
        counts=world.counts,
        image=image,
        operator_namespace="ops",
        development=DevelopmentImages(),
        trust=trust,
        may_act=lambda: True,
    )
    supervisor = Supervisor(cache, lambda key, uid: ClusterTask(shared, key, uid))
    hearing = hear(cache.resources, log_in=world.api.log_in)
    tasks = [asyncio.create_task(part.run()) for part in (cache, events, supervisor)]
    tasks.append(asyncio.create_task(hearing))
    world.cache = cache
    try:
        # What is ended while it connects for the first time takes seconds to end.
        await eventually(lambda: world.api.is_watched(CLUSTER))
        yield world
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
