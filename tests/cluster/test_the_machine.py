"""The cluster itself: what every other test here takes for granted."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from pymongo import MongoClient

from cluster.kit import pods
from cluster.kit.api import Api, Objects, condition, is_ready
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Kubectl
from cluster.machine import images
from cluster.machine.kwok import TAINT
from cluster.machine.machine import Machine

pytestmark = pytest.mark.alone

ASK = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"


def ready(*names: str) -> Callable[[Objects], bool]:
    def holds(found: Objects) -> bool:
        return all(name in found and is_ready(found[name]) for name in names)

    return holds


def path(namespace: str, kind: str = "pods") -> str:
    return f"/api/v1/namespaces/{namespace}/{kind}"


async def test_every_node_is_ready(api: Api) -> None:
    def holds(nodes: Objects) -> bool:
        return bool(nodes) and all(condition(node, "Ready") == "True" for node in nodes.values())

    await api.until("/api/v1/nodes", holds, 60)  # the test before this one may have stopped their API server


async def test_a_pod_runs_and_is_asked_from_here(api: Api, namespace: str, kubectl: Kubectl) -> None:
    kubectl.apply(pods.web("one"))
    found = await api.until(path(namespace), ready("one"), 60)
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{found['one']['status']['podIP']}:8080/")
    assert answer.status_code == 200
    assert "Serving HTTP" in kubectl("logs", "one")
    assert kubectl("exec", "one", "--", "python3", "-c", "print(6 * 7)").strip() == "42"


async def test_pods_of_two_nodes_reach_each_other_by_name(api: Api, namespace: str, kubectl: Kubectl) -> None:
    names = [node["metadata"]["name"] for node in (await api.get("/api/v1/nodes"))["items"]]
    if len(names) < 2:
        pytest.skip("this cluster has one node")
    kubectl.apply(
        pods.web("here", node=names[0]),
        pods.web("there", node=names[1]),
        pods.service("there", {"app": "there"}, 8080),
    )
    found = await api.until(path(namespace), ready("here", "there"), 60)
    for host in (found["there"]["status"]["podIP"], "there", f"there.{namespace}.svc.cluster.local"):
        assert kubectl("exec", "here", "--", "python3", "-c", ASK, f"http://{host}:8080/").strip() == "200"


async def test_our_image_holds_our_commands(api: Api, namespace: str, kubectl: Kubectl) -> None:
    kubectl.apply(pods.pod("ours", ["python3", "-c", "import time; time.sleep(3600)"]))
    await api.until(path(namespace), ready("ours"), 60)
    found = kubectl("exec", "ours", "--", "sh", "-c", "cd /opt/chatcluster/bin && ls").split()
    assert {"apipod", "chatctl", "chatpod", "chatworker"} <= set(found)
    assert "Usage" in kubectl("exec", "ours", "--", "chatctl", "--help")
    # Its bytecode is there already: nothing could be written beside the source.
    compiled = "import chatpod.main, pathlib; print(pathlib.Path(chatpod.main.__cached__).exists())"
    assert kubectl("exec", "ours", "--", "python3", "-c", compiled).strip() == "True"


async def test_the_stores_run_as_pods(api: Api, namespace: str, kubectl: Kubectl) -> None:
    secret = {"POSTGRES_USER": "chat", "POSTGRES_PASSWORD": "a secret", "POSTGRES_DB": "talk"}
    data = "/var/lib/postgresql/data"
    as_postgres = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "chat", "-d", "talk"]}}
    kubectl.apply(
        pods.pod(
            "redis",
            ["redis-server", "--requirepass", "secret"],
            image=images.REDIS,
            folders=["/data"],
            probe={"tcpSocket": {"port": 6379}},
        ),
        pods.pod(
            "postgresql",
            [],
            image=images.POSTGRESQL,
            env=secret,
            folders=[data, "/tmp", "/var/run/postgresql"],
            probe=as_postgres,
        ),
        pods.pod("mongodb", [], image=images.MONGODB, folders=["/tmp"], probe={"tcpSocket": {"port": 27017}}),
    )
    found = await api.until(path(namespace), ready("redis", "postgresql", "mongodb"), 120)
    assert kubectl("exec", "redis", "--", "redis-cli", "-a", "secret", "ping").strip() == "PONG"
    login = ["env", "PGPASSWORD=a secret", "psql", "-h", "127.0.0.1", "-U", "chat", "-d", "talk"]
    assert kubectl("exec", "postgresql", "--", *login, "-tAc", "select 6 * 7").strip() == "42"
    mongodb: MongoClient[dict[str, object]] = MongoClient(found["mongodb"]["status"]["podIP"])
    assert mongodb.admin.command("ping")["ok"] == 1
    mongodb.close()


async def test_a_killed_and_a_frozen_process(
    api: Api, namespace: str, kubectl: Kubectl, faults: Faults
) -> None:
    kubectl.apply(pods.web("frozen"), pods.web("killed"))
    found = await api.until(path(namespace), ready("frozen", "killed"), 60)
    url = f"http://{found['frozen']['status']['podIP']}:8080/"
    async with httpx.AsyncClient(trust_env=False, timeout=1.0) as http:
        with faults.frozen(namespace, "frozen"), pytest.raises(httpx.ReadTimeout):
            await http.get(url)
        assert (await http.get(url)).status_code == 200
    faults.kill(namespace, "killed")
    await api.until(path(namespace), lambda seen: seen["killed"]["status"]["phase"] == "Failed", 30)


@pytest.mark.slow
async def test_a_node_that_is_cut_off_is_missed_and_comes_back(
    api: Api, namespace: str, kubectl: Kubectl, faults: Faults, machine: Machine
) -> None:
    node = machine.layout.nodes()[-1].name
    kubectl.apply(pods.web("far", node=node))
    await api.until(path(namespace), ready("far"), 60)
    with faults.node_cut_off(node):
        await api.until(
            "/api/v1/nodes",
            lambda nodes: condition(nodes[node], "Ready") == "Unknown",
            60,
            f"{node} is missed",
        )
        assert faults.processes(namespace, "far"), "what runs on it runs on"
    await api.until("/api/v1/nodes", lambda nodes: condition(nodes[node], "Ready") == "True", 60)
    await api.until(path(namespace), ready("far"), 60)


async def test_fake_nodes_take_many_pods(
    api: Api, namespace: str, kubectl: Kubectl, fake_nodes: Callable[[int], list[str]]
) -> None:
    names = fake_nodes(2)
    await api.until(
        "/api/v1/nodes", lambda nodes: all(condition(nodes[name], "Ready") == "True" for name in names), 60
    )
    many = [pods.pod(f"fake-{number}", ["true"], node=names[number % 2]) for number in range(20)]
    for each in many:
        each["spec"]["tolerations"] = [TAINT]
    kubectl.apply(*many)
    await api.until(path(namespace), ready(*(f"fake-{number}" for number in range(20))), 60)


async def test_the_api_server_goes_away_and_comes_back(api: Api, namespace: str, faults: Faults) -> None:
    with faults.api_server_away():
        pass
    assert (await api.get(path(namespace)))["items"] == []


async def test_an_eviction_ends_a_pod(api: Api, namespace: str, kubectl: Kubectl) -> None:
    kubectl.apply(pods.web("evicted"))
    await api.until(path(namespace), ready("evicted"), 60)
    await api.evict(namespace, "evicted")
    await api.until(path(namespace), lambda found: not found, 60)
