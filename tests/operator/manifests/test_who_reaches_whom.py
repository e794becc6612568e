"""Everybody may speak to those whom they need, and to nobody else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.manifest_samples import (
    FULL,
    GATEWAY,
    INPUTS,
    MONGO,
    SENTINEL,
    SMALL,
    all_objects,
    cluster_of,
    pods_of,
)
from support.policy_rules import Peer, reaches

from chatoperator.manifests import network, ports
from chatoperator.manifests.inputs import Inputs

OUTSIDE = Peer()
OPERATOR = Peer(INPUTS.operator_namespace, network.OPERATOR_LABELS)
STRANGER = Peer("elsewhere", {"app": "stranger"})
NEIGHBOUR = Peer("apps", {"app": "neighbour"})
SERVICES = ("chat", "api", "worker", "probe")


class Net:
    """The network of a cluster."""

    def __init__(self, spec: dict[str, Any], inputs: Inputs = INPUTS) -> None:
        cluster = cluster_of(spec)
        self.policies = network.policies(cluster, inputs)
        self.pods = {
            name: Peer("apps", pod["metadata"]["labels"])
            for name, pod in pods_of(all_objects(cluster, inputs)).items()
        }

    def reached(self, source: Peer, port: int) -> set[str]:
        return {name for name, pod in self.pods.items() if reaches(self.policies, source, pod, port)}

    def ports_outside(self, name: str, candidates: list[int]) -> set[int]:
        return {port for port in candidates if reaches(self.policies, self.pods[name], OUTSIDE, port)}


def test_every_pod_is_under_a_policy_for_both_directions() -> None:
    for spec in (SMALL, FULL, MONGO):
        net = Net(spec)
        assert {
            policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for policy in net.policies
        } == set(net.pods)
        assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in net.policies)


def test_clients_reach_sockets_and_the_api_and_nothing_else() -> None:
    net = Net(SMALL)
    for client in (OUTSIDE, STRANGER, NEIGHBOUR):
        assert net.reached(client, 8080) == {"chat", "api"}
        assert net.reached(client, 6379) == net.reached(client, 5432) == net.reached(client, 22) == set()


def test_the_operator_reaches_every_pod_that_serves_and_redis() -> None:
    net = Net(SMALL)
    assert net.reached(OPERATOR, 8080) == set(SERVICES)
    assert net.reached(OPERATOR, 6379) == {"redis"}
    assert net.reached(OPERATOR, 5432) == set()


def test_pods_reach_their_stores_and_the_probe_reaches_those_it_chats_with() -> None:
    net = Net(SMALL)
    for name in SERVICES:
        assert net.reached(net.pods[name], 6379) == {"redis"}
        assert net.reached(net.pods[name], 5432) == {"postgresql"}
        assert net.reached(net.pods[name], 8080) == ({"chat", "api"} if name == "probe" else set())
    assert net.reached(net.pods["schema"], 5432) == {"postgresql"}
    assert net.reached(net.pods["schema"], 6379) == net.reached(net.pods["schema"], 8080) == set()
    for name in ("redis", "postgresql"):
        assert not any(net.reached(net.pods[name], port) for port in (6379, 5432, 8080))
        assert net.ports_outside(name, [53, 80, 443]) == set()


def test_everyone_but_the_stores_may_ask_for_names() -> None:
    net = Net(SMALL)
    for name in (*SERVICES, "schema"):
        for protocol in ("TCP", "UDP"):
            assert reaches(net.policies, net.pods[name], OUTSIDE, 53, protocol)
        assert net.ports_outside(name, [22, 80, 443, 9090]) == set()


def test_external_servers_are_reached_at_the_ports_of_their_urls() -> None:
    net = Net(GATEWAY)
    assert net.ports_outside("chat", [6379, 6380, 5432, 27017, 443]) == {6380, 5432}
    assert net.ports_outside("schema", [6379, 6380, 5432]) == {5432}


def test_servers_that_tell_their_own_addresses_are_reached_at_any_port() -> None:
    assert Net(SENTINEL).ports_outside("chat", [6380, 26379, 27018]) == {6380, 26379, 27018}
    assert Net(FULL).ports_outside("chat", [6380, 27018]) == {6380, 27018}, "a Secret holds the URL"
    told = msgspec.structs.replace(INPUTS, redis_ports=(6380,), store_ports=(27017,))
    assert Net(FULL, told).ports_outside("worker", [6379, 6380, 27017, 27018]) == {6380, 27017}


def test_the_keys_of_foreign_issuers_can_be_fetched_by_the_api_alone() -> None:
    issuer = {"issuer": "https://i.example", "jwksUrl": "https://i.example:8443/keys", "audience": "chat"}
    net = Net({**SMALL, "auth": {"issuers": [issuer]}})
    assert net.ports_outside("api", [443, 8443]) == {8443}
    assert net.ports_outside("chat", [443, 8443]) == set()


def test_prometheus_is_let_in_where_it_is_to_come() -> None:
    net = Net({**SMALL, "observability": {"serviceMonitor": True}})
    assert net.reached(STRANGER, 8080) == set(SERVICES)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@db/chat", (5432,)),
        ("postgresql://db:6000/chat", (6000,)),
        ("postgresql://db1:6000,db2/chat", (5432, 6000)),
        ("postgres://[::1]:6000/chat", (6000,)),
        ("postgres://[::1]/chat", (5432,)),
        ("postgresql:///chat?host=db&port=6000", ()),
        ("mongodb://db:6000/chat", ()),
        ("mongodb+srv://db/chat", ()),
        ("postgresql://db:6000/chat postgresql://db2/people", (5432, 6000)),
        ("postgresql://db:6000/chat mongodb://db2/people", ()),
    ],
)
def test_ports_of_stores(url: str, expected: tuple[int, ...]) -> None:
    assert ports.store_ports(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:p@r/0", (6379,)),
        ("rediss://r:6380/0", (6380,)),
        ("redis+sentinel://s:26379/main", ()),
        ("redis+cluster://a:7000,b:7001", ()),
    ],
)
def test_ports_of_redis(url: str, expected: tuple[int, ...]) -> None:
    assert ports.redis_ports(url) == expected
