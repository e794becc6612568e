"""Nodes that may take the chat pods of one test, by a label of its own: without it there is room for no more of them,
and nobody else's pods notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.kit.kubectl import Kubectl


class Room:
    """On no node, until it is given."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.label = f"test.chatcluster.dev/{kubectl.namespace}"

    @property
    def pod(self) -> dict[str, object]:
        """What the resource says of pods that are to have it."""
        return {"nodeSelector": {self.label: "yes"}}

    def give(self) -> None:
        """Every node has room: pods that wait are scheduled at once."""
        self._kubectl("label", "nodes", "--all", "--overwrite", f"{self.label}=yes")

    def take(self) -> None:
        """No node has any. Pods that run stay."""
        self._kubectl("label", "nodes", "--all", f"{self.label}-")


@contextmanager
def room_of(kubectl: Kubectl) -> Iterator[Room]:
    """Room on every node; the labels are gone afterwards."""
    room = Room(kubectl)
    room.give()
    try:
        yield room
    finally:
        room.take()
