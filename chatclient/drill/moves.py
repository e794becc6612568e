"""Whether the clients of a pod that went on purpose were moved as promised: exactly once, and before they lost
anything. Pure, as the checker is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from chatclient.drill.histories import Loss
from chatclient.listener import Up
from chatkernel.errors import Close

T = TypeVar("T")

_FAREWELLS = frozenset({Close.NORMAL, Close.GOING_AWAY, Close.RESTARTING, Close.MIGRATED, 1006})
"""Close codes by which a pod that goes ends a connection; 1006 when it does so without a word. The others (a lease
that ended, a slow reader) have causes that no drain is to blame for."""


@dataclass(slots=True)
class Seating(Generic[T]):
    """Which device was on which pod when pods were asked to go, and which of the pods went.

    A device that came later is not looked at: it may have come in the pod's last moment.
    """

    at_s: float
    pods: dict[T, str]
    went: set[str] = field(default_factory=set)

    def leavers(self) -> dict[T, str]:
        return {device: pod for device, pod in self.pods.items() if pod in self.went}


class Breach(StrEnum):
    """What was done to a client that should have been moved, as the verdict says it."""

    UNTOLD = "lost their connection without being asked to move"
    CUT_OFF = "were asked to move, but lost their connection before they had another"
    NOT_ONCE = "were not moved, or more than once"


def breach_of(
    pod: str, since_s: float, until_s: float, losses: Iterable[Loss], ups: Iterable[tuple[float, Up]]
) -> Breach | None:
    """What was wrong with the leaving of a device that was on `pod` at `since_s`; None: nothing."""
    lost = [loss for loss in losses if loss.pod == pod and since_s <= loss.at_s <= until_s]
    for loss in lost:
        if loss.code in _FAREWELLS and not loss.gave_up:
            return Breach.CUT_OFF if loss.told else Breach.UNTOLD
    if lost:
        return None  # by something else than the drain
    moves = sum(up.moved and up.from_pod == pod and since_s <= at_s <= until_s for at_s, up in ups)
    return None if moves == 1 else Breach.NOT_ONCE
