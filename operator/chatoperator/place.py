"""The port to where pods run. The laptop's adapter starts child processes (`local.py`)."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from chatoperator.model import PodKind, PodView
from chatoperator.spec import ChatCluster


class PodSpec(Struct, frozen=True):
    """A pod to be: what it is, and the cluster that it is of."""

    kind: PodKind
    revision: str
    cluster: ChatCluster


class DrainOrder(Struct, frozen=True):
    deadline_s: float
    rate_per_s: float


class PlaceError(Exception):
    """The place could not do it now; the next plan asks again."""


class PlaceForPods(Protocol):
    """Every method only begins what it is asked for, so that one stuck pod holds up nobody: the outcome is
    seen in `observe`. All raise PlaceError."""

    def observe(self) -> list[PodView]:
        """Every pod that was started and not forgotten, as last heard of."""
        ...

    async def start(self, pod: PodSpec) -> str:
        """Starts a pod under a name that was never used before, and tells the name."""
        ...

    async def drain(self, name: str, order: DrainOrder) -> None:
        """Notes the intent, then tells the pod. Again is harmless."""
        ...

    async def undrain(self, name: str) -> None:
        """Tells the pod; the intent is dropped when it has heard."""
        ...

    async def shed(self, name: str, count: int, rate_per_s: float) -> None: ...

    async def stop(self, name: str, grace_s: float) -> None:
        """SIGTERM, and after `grace_s` SIGKILL."""
        ...

    async def forget(self, name: str) -> None:
        """Drops what is left of a dead pod."""
        ...
