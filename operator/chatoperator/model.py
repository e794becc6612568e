"""What the plan sees and what it decides: plain values, no behaviour.

Times are seconds of one monotonic clock, the one that `now` is read from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct


class PodKind(StrEnum):
    CHAT = "chat"
    API = "api"
    WORKER = "worker"


class PodView(Struct, frozen=True, kw_only=True):
    """One pod as the place where it runs sees it.

    `connections` is None when the pod has not told: unknown counts are busy.
    """

    name: str
    kind: PodKind
    revision: str
    started_at: float
    incarnation: str = ""
    alive: bool = True
    """Its process exists. A dead pod stays in view until it is forgotten."""
    ready: bool = False
    ever_ready: bool = False
    unready_since: float | None = None
    """Since when a pod that was ready is not; one slow answer makes it so for a moment."""
    answered_at: float | None = None
    """When its health route last answered."""
    drain_intent: bool = False
    """The operator has decided that it goes; survives the operator."""
    drain_told: bool = False
    """The pod says itself that it is draining."""
    draining_since: float | None = None
    condemned: bool = False
    """A person asked for this pod to go: it is replaced first, like one of an old revision."""
    stopping: bool = False
    """Its deletion has begun."""
    connections: int | None = None

    @property
    def draining(self) -> bool:
        return self.drain_intent or self.drain_told


class EntryView(Struct, frozen=True):
    """An entry of the discovery registry. `live`: its lease has not run out."""

    name: str
    incarnation: str
    live: bool
    seen_since: float = 0.0
    """When the operator first saw this run in the registry."""


class RegistryView(Struct, frozen=True):
    entries: tuple[EntryView, ...] = ()
    serving_revision: str = ""
    excluded: frozenset[str] = frozenset()


class Failures(Struct, frozen=True):
    """Pods of one kind and revision that died young, in a row."""

    count: int
    last_at: float


class Observed(Struct, frozen=True, kw_only=True):
    """`registry` is None while Redis does not answer."""

    pods: tuple[PodView, ...] = ()
    registry: RegistryView | None = None
    failures: dict[tuple[PodKind, str], Failures] = {}
    disturbed_at: float | None = None
    """When a chat pod last failed or joined: what rebalancing waits for."""
    shed_at: float | None = None


class Start(Struct, frozen=True):
    kind: PodKind
    revision: str
    reason: str


class Drain(Struct, frozen=True):
    pod: str
    reason: str


class Undrain(Struct, frozen=True):
    pod: str
    reason: str


class Delete(Struct, frozen=True):
    """Ends the process: SIGTERM, then SIGKILL after `grace_s`; 0 kills at once."""

    pod: str
    reason: str
    grace_s: float


class Forget(Struct, frozen=True):
    """The pod is dead: nothing is left of it but its log."""

    pod: str
    reason: str


class RemoveEntry(Struct, frozen=True):
    pod: str
    incarnation: str
    reason: str


class SetPolicy(Struct, frozen=True):
    """What discovery must know: the revision to hand out ("" is any), and which pods never."""

    serving_revision: str
    excluded: frozenset[str]


class Shed(Struct, frozen=True):
    """Move `count` clients of this pod to others."""

    pod: str
    count: int
    reason: str


Action: TypeAlias = Start | Drain | Undrain | Delete | Forget | RemoveEntry | SetPolicy | Shed
