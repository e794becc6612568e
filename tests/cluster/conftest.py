"""Fixtures of the tests that need a Kubernetes. They are run by `make test-cluster`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cluster.kit.api import Api, connected
from cluster.kit.chat import Chat, Operator, operating
from cluster.kit.fakenodes import faking
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.kit.room import Room, room_of
from cluster.machine.layout import MACHINE_ENV, Layout
from cluster.machine.machine import Machine

HERE = Path(__file__).parent
NOT_HERE = (
    "this cluster does not enforce NetworkPolicies, and has no metrics-server, load balancer or volume provisioner: "
    "what needs those is tested at the API"
)


def pytest_report_header() -> list[str]:
    machine = os.environ.get(MACHINE_ENV)
    used = (
        f"this machine's own ({machine})" if machine else f"that of KUBECONFIG={os.environ.get('KUBECONFIG')}"
    )
    return [f"kubernetes: {used}", *([f"kubernetes: {NOT_HERE}"] if machine else [])]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session", autouse=True)
def _a_cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail(
            "there is no cluster: make cluster-up, then make test-cluster (or set KUBECONFIG)", pytrace=False
        )


@pytest.fixture(scope="session")
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.end()


@pytest.fixture
def namespace(namespaces: Namespaces) -> Iterator[str]:
    """One of the test's own, under the Pod Security level "restricted"."""
    name = namespaces.make()
    yield name
    namespaces.leave(name)


@pytest.fixture
def kubectl(namespace: str) -> Kubectl:
    return Kubectl(namespace)


@pytest.fixture
def helm(namespace: str) -> Helm:
    return Helm(namespace)


@pytest.fixture(scope="module")
def operator(namespaces: Namespaces) -> Iterator[Operator]:
    """At work in a namespace of the file's own: what it looks after is there from one test to the next."""
    name = namespaces.make()
    with operating(Helm(name), Kubectl(name)) as installed:
        yield installed
    namespaces.leave(name)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with connected() as opened:
        yield opened


@pytest.fixture
async def chat(api: Api, operator: Operator) -> Chat:
    """A cluster with two chat pods, the same for all tests of a file, unless that has one of its own."""
    one = Chat(api, operator.kubectl)
    one.apply()
    await one.settled(2)
    return one


@pytest.fixture
def room(operator: Operator) -> Iterator[Room]:
    """For chat pods of the file's operator, on every node, until the test takes it away."""
    with room_of(operator.kubectl) as given:
        yield given


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The cluster's machine. A test that breaks a node or the API server can only do it to one of ours."""
    name = os.environ.get(MACHINE_ENV)
    if name is None:
        pytest.skip("only a cluster of this machine can be broken: this one is KUBECONFIG's")
    return Machine(Layout(name))


@pytest.fixture
def fake_nodes(machine: Machine) -> Iterator[Callable[[int], list[str]]]:
    """Call it with a number of nodes."""
    with faking(machine) as make:
        yield make


@pytest.fixture
def faults(machine: Machine) -> Faults:
    return Faults(machine)
