"""Fake nodes beside the real ones, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.kit.kubectl import Kubectl
from cluster.machine.kwok import fake_nodes
from cluster.machine.machine import Machine


@contextmanager
def faking(machine: Machine) -> Iterator[Callable[[int], list[str]]]:
    """Call it with a number: so many nodes whose pods only say that they run. They tolerate `kwok.TAINT`, and choose
    nodes by the label `type: kwok`."""
    made: list[str] = []
    kubectl = Kubectl("default")

    def make(number: int) -> list[str]:
        names = [f"fake-{len(made) + each}" for each in range(1, number + 1)]
        made.extend(names)
        kubectl("apply", "--server-side", "--filename=-", stdin=fake_nodes(names))
        return names

    machine.kwok.start()
    try:
        yield make
    finally:
        try:
            for name in made:
                _remove(kubectl, name)
        finally:
            machine.kwok.stop()


def _remove(kubectl: Kubectl, node: str) -> None:
    """Its pods first, while somebody still says that they have ended: without, it takes Kubernetes a minute."""
    here = f"--field-selector=spec.nodeName={node}"
    found = kubectl.get("pods", "--all-namespaces", here)["items"]
    for namespace in {pod["metadata"]["namespace"] for pod in found}:
        Kubectl(namespace)("delete", "pods", here)
    kubectl("delete", "node", node)
