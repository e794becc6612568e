"""ChatClusters under an operator of the test's own, and what tests want to know of them."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.kit.api import Api, Object, Objects, condition, eventually, is_ready
from cluster.kit.kubectl import Helm, Kubectl
from cluster.machine.images import MONGODB, POSTGRESQL, PRODUCT, PRODUCT_TAG, REDIS

REPOSITORY = Path(__file__).parents[3]
CHART, CRDS = REPOSITORY / "charts" / "chatcluster", REPOSITORY / "crds"
RELEASE = "operator"
"""Of the chart, in each namespace of a test that has only one."""
GROUP = "/apis/chatcluster.dev/v1alpha1"
AVAILABLE_S = 30.0
"""From `kubectl apply` to Available, when images are present."""
TAKEN_OVER_S = 15.0
"""From when the operator that works is killed or frozen until another goes on."""
SLOW = 2.0
"""How much longer than promised a test waits before it fails: machines of tests do other things, too."""

KINDS = (
    "pods,services,configmaps,secrets,deployments,jobs,controllerrevisions,poddisruptionbudgets,"
    "networkpolicies,ingresses,serviceaccounts"
)
"""Of what a cluster consists of; and of HTTPRoutes and ServiceMonitors, where Kubernetes knows those."""

Requests = dict[tuple[str, str], float]
"""Of an operator to the API server since it began, by verb and resource."""


def resource(name: str = "talk", **spec: Any) -> Object:
    """With a Redis and a PostgreSQL that the operator runs; None leaves one out."""
    wanted: Object = {
        "redis": {"development": True},
        "postgresql": {"development": True},
        "chatPods": {"replicas": 2, "connectionsPerPod": 100},
        **spec,
    }
    return {
        "apiVersion": "chatcluster.dev/v1alpha1",
        "kind": "ChatCluster",
        "metadata": {"name": name},
        "spec": {key: value for key, value in wanted.items() if value is not None},
    }


class Chat:
    """One ChatCluster."""

    def __init__(self, api: Api, kubectl: Kubectl, name: str = "talk") -> None:
        self._api, self.kubectl, self.name = api, kubectl, name
        self.namespace = kubectl.namespace

    @property
    def path(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/chatclusters/{self.name}"

    @property
    def url(self) -> str:
        """Of the API's Service, by its address."""
        service = self.kubectl.get("service", f"{self.name}-api")
        return f"http://{service['spec']['clusterIP']}"

    def apply(self, **spec: Any) -> None:
        self.kubectl.apply(resource(self.name, **spec))

    async def scale(self, replicas: int) -> None:
        await self._api.scale(self.path, replicas)

    async def until(self, holds: Callable[[Object], object], within_s: float, what: str) -> Object:
        """Of the resource."""
        parent = self.path.rpartition("/")[0]
        found = await self._api.until(
            parent, lambda seen: self.name in seen and holds(seen[self.name]), within_s * SLOW, what
        )
        return found[self.name]

    async def available(self, within_s: float = AVAILABLE_S) -> Object:
        return await self.until(lambda found: condition(found, "Available") == "True", within_s, "Available")

    async def settled(self, pods: int, within_s: float = 60.0) -> Objects:
        """So many chat pods, all ready, none on its way, and the status says so; the pods."""

        def holds(found: Object) -> bool:
            seen = found.get("status", {})
            counts = seen.get("chatPods", {})
            current = seen.get("observedGeneration") == found["metadata"]["generation"]
            there = [counts.get(count) for count in ("desired", "ready", "replicas")]
            return current and seen.get("phase") == "Running" and there == [pods] * 3

        await self.until(holds, within_s, f"{pods} chat pods, all ready")
        found = await self.chat_pods_until(
            lambda found: sum(map(is_ready, found.values())) == pods, within_s, f"{pods} ready"
        )
        return {name: pod for name, pod in found.items() if is_ready(pod)}

    async def chat_pods_until(
        self, holds: Callable[[Objects], object], within_s: float, what: str = ""
    ) -> Objects:
        return await self._api.until(self._of("chat"), holds, within_s * SLOW, what)

    async def chat_pods(self) -> Objects:
        """Those that are alive and stay."""
        found = await self.chat_pods_until(lambda _: True, 10)
        return {name: pod for name, pod in found.items() if is_ready(pod)}

    async def reason(self, kind: str, reason: str, within_s: float = 30.0) -> Object:
        """Waits until a condition has this reason; the condition."""
        found = await self.until(
            lambda seen: _condition(seen, kind).get("reason") == reason, within_s, f"{kind}: {reason}"
        )
        return _condition(found, kind)

    def objects(self) -> dict[str, Object]:
        """All that there is of it, by kind and name: `Service/talk-api`."""
        found = self.kubectl.get(KINDS, f"--selector=chatcluster.dev/cluster={self.name}")["items"]
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}

    def last_scaling(self) -> Object:
        """The last decision about the number of chat pods: when, from how many, to how many, why."""
        told: Object = self.kubectl.get("chat", self.name)["status"].get("lastScaling") or {}
        return told

    def events(self) -> list[str]:
        """What was told of the cluster, oldest first."""
        found = self.kubectl.get("events.events.k8s.io")["items"]
        about = [each for each in found if each.get("regarding", {}).get("name") == self.name]
        about.sort(key=lambda each: each.get("eventTime") or "")
        return [str(each.get("note")) for each in about]

    def _of(self, component: str) -> str:
        labels = f"chatcluster.dev/cluster={self.name},app.kubernetes.io/component={component}"
        return f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={urllib.parse.quote(labels)}"


class Operator:
    """The chart, installed in one namespace and looking after some."""

    def __init__(self, helm: Helm, kubectl: Kubectl, release: str = RELEASE) -> None:
        self._helm, self.kubectl, self._release = helm, kubectl, release

    def install(self, namespaces: Sequence[str], chart: Path = CHART, **values: Any) -> None:
        """With the resource definition of this version, which all operators of a cluster share; `crds={"install":
        True}`: with the chart's own."""
        how = ["--wait", "--timeout=90s"]
        if values.get("crds", {}).get("install"):
            how.append("--take-ownership")  # there is one from the other tests
        else:
            self.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRDS}")
        given = {
            "image": {"repository": PRODUCT, "tag": PRODUCT_TAG},
            "developmentImages": {"redis": REDIS, "postgresql": POSTGRESQL, "mongodb": MONGODB},
            "watchNamespaces": list(namespaces),
            "crds": {"install": False},
            "podDisruptionBudget": {"enabled": False},
            **values,
        }
        settings = [f"--set-json={key}={json.dumps(value)}" for key, value in given.items()]
        self._helm("upgrade", "--install", self._release, str(chart), *how, *settings)

    def remove(self) -> None:
        self._helm("uninstall", self._release, "--ignore-not-found")

    def pods(self) -> list[str]:
        ours = f"app.kubernetes.io/name=chatcluster-operator,app.kubernetes.io/instance={self._release}"
        found = self.kubectl.get("pods", f"--selector={ours}")["items"]
        return [pod["metadata"]["name"] for pod in found if pod["status"]["phase"] == "Running"]

    def leader(self) -> str:
        """The pod that holds the Lease; "" while nobody does."""
        lease = self.kubectl.get("lease", f"{self._release}-chatcluster")
        holder = str(lease["spec"].get("holderIdentity") or "")
        return holder.rpartition("-")[0]

    def metrics(self) -> str:
        """The leader's."""
        path = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{self.leader()}:8080/proxy/metrics"
        return self.kubectl("get", "--raw", path)

    async def another_leads(self, before: str) -> None:
        """In time: the Lease has to be left alone for 9 s, and is asked for every second or two."""

        async def another() -> bool:
            return self.leader() not in ("", before)

        await eventually(another, TAKEN_OVER_S * SLOW, f"another than {before} leads")


def requests_of(metrics: str) -> Requests:
    pattern = r'operator_requests_total\{verb="(\w+)",resource="(\w+)",code="\w+"\} ([\d.e+]+)'
    asked: Requests = {}
    for verb, kind, count in re.findall(pattern, metrics):
        asked[verb, kind] = asked.get((verb, kind), 0.0) + float(count)
    return asked


@contextmanager
def operating(
    helm: Helm, kubectl: Kubectl, namespaces: Sequence[str] = (), release: str = RELEASE, **values: Any
) -> Iterator[Operator]:
    """An operator for these namespaces, or for its own."""
    operator = Operator(helm, kubectl, release)
    operator.install(namespaces or [kubectl.namespace], **values)
    try:
        yield operator
    finally:
        operator.remove()


def _condition(found: Object, kind: str) -> Object:
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})
