"""Many ChatClusters on fake nodes: their pods only pretend to run, and somebody pretends for them in Redis that they
serve. What an operator costs is seen there, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psutil

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, connect
from chatkernel.registry import PodEntry, PodState, Registry
from chatoperator.manifests import names
from cluster.kit import pods
from cluster.kit.api import Api, Object, is_ready
from cluster.kit.chat import GROUP, Operator, Requests, requests_of, resource
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Kubectl
from cluster.machine.images import REDIS
from cluster.machine.kwok import NAME, TAINT

PODS_EACH = 5
"""Two chat pods, and one each that serves the API, works and probes."""
PODS_PER_NODE = 110
LEASE_S = 60.0
RENEW_S = 15.0
APPLIED_AT_ONCE = 20
FINISHED_S = 900.0
"""Until all are Running, at the very most."""


def nodes_for(clusters: int) -> int:
    return -(-clusters * (PODS_EACH + 1) // PODS_PER_NODE)


class Fleet:
    """`clusters` ChatClusters in one namespace, on one Redis."""

    def __init__(self, api: Api, kubectl: Kubectl, clusters: int) -> None:
        self._api, self._kubectl = api, kubectl
        self.names = [f"talk-{number}" for number in range(clusters)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Applied, and all Running; gone again when this ends."""
        address = await self._redis()
        secret = {"redis": f"redis://{address}:6379/0", "store": "postgresql://nobody@store.invalid/chat"}
        self._kubectl.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "outside"}, "stringData": secret}
        )
        redis = connect(secret["redis"])
        pretending = asyncio.create_task(self._pretend(redis))
        try:
            await self._apply()
            await self._api.until(self._path, self._are_running, FINISHED_S, "all are Running")
            yield
        finally:
            pretending.cancel()
            await asyncio.gather(pretending, return_exceptions=True)
            await redis.aclose()

    @property
    def _path(self) -> str:
        return f"{GROUP}/namespaces/{self._kubectl.namespace}/chatclusters"

    def _are_running(self, found: Mapping[str, Object]) -> bool:
        return all(
            found.get(name, {}).get("status", {}).get("phase") == "Running"
            and found[name]["status"].get("observedGeneration") == found[name]["metadata"]["generation"]
            for name in self.names
        )

    async def _redis(self) -> str:
        """A real one on a real node; its address."""
        self._kubectl.apply(
            pods.pod(
                "redis",
                ["redis-server", "--protected-mode", "no", "--save", ""],
                image=REDIS,
                folders=["/data"],
                probe={"tcpSocket": {"port": 6379}},
            )
        )
        path = f"/api/v1/namespaces/{self._kubectl.namespace}/pods"
        found = await self._api.until(path, lambda seen: "redis" in seen and is_ready(seen["redis"]), 60)
        return str(found["redis"]["status"]["podIP"])

    async def _apply(self) -> None:
        everywhere = {"nodeSelector": {"type": NAME}, "tolerations": [TAINT]}
        given: dict[str, Any] = {
            "redis": {"urlFrom": {"secret": {"name": "outside", "key": "redis"}}},
            "postgresql": {"urlFrom": {"secret": {"name": "outside", "key": "store"}}},
            "chatPods": {"replicas": 2, "pod": everywhere},
            "apiPods": {"replicas": 1, "pod": everywhere},
            "worker": {"replicas": 1, "pod": everywhere},
        }
        wanted = [resource(name, **given) for name in self.names]
        for first in range(0, len(wanted), APPLIED_AT_ONCE):
            await asyncio.to_thread(self._kubectl.apply, *wanted[first : first + APPLIED_AT_ONCE])

    async def _pretend(self, redis: Redis) -> None:
        """Chat pods that Kubernetes says are ready have an entry in the registry of their cluster."""
        label = f"app.kubernetes.io/component%3D{names.CHAT}"
        path = f"/api/v1/namespaces/{self._kubectl.namespace}/pods?labelSelector={label}"
        renewed: dict[str, float] = {}
        clock = asyncio.get_running_loop()
        while True:
            for pod in (await self._api.get(path))["items"]:
                name = pod["metadata"]["name"]
                if is_ready(pod) and clock.time() - renewed.get(name, -RENEW_S) >= RENEW_S:
                    try:
                        await self._renew(redis, pod)
                    except ChatError:
                        continue  # again in a second
                    renewed[name] = clock.time()
            await asyncio.sleep(1.0)

    async def _renew(self, redis: Redis, pod: Object) -> None:
        meta = pod["metadata"]
        entry = PodEntry(
            name=meta["name"],
            incarnation=meta["uid"][-12:],
            url=f"ws://{meta['name']}.invalid/",
            region="",
            revision=meta["labels"][names.LABEL_REVISION],
            state=PodState.READY,
            connections=0,
            capacity=10_000,
            started_at=0,
        )
        identity = names.identity(meta["namespace"], meta["labels"][names.LABEL_CLUSTER])
        await Registry(redis, Keys("chat", identity)).renew(entry, LEASE_S)


class Seen:
    """What the operator's leader has asked for so far, and what it takes."""

    def __init__(self, operator: Operator, faults: Faults) -> None:
        text = operator.metrics()
        self.requests = requests_of(text)
        rounds = re.findall(r"operator_rounds_total\{.*\} ([\d.e+]+)", text)
        self.rounds = sum(map(float, rounds))
        (process,) = faults.processes(operator.kubectl.namespace, operator.leader())
        measured = psutil.Process(process.pid)
        self.rss_bytes = measured.memory_info().rss
        times = measured.cpu_times()
        self.cpu_s = times.user + times.system

    def since(self, before: Seen) -> Requests:
        grown = {key: count - before.requests.get(key, 0.0) for key, count in self.requests.items()}
        return {key: count for key, count in grown.items() if count}
