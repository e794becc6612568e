"""What the plan sees and what it decides: plain values, no behaviour.

Times are seconds of one clock, the one that `now` is read from: the laptop's is monotonic, on Kubernetes it is
Unix time.
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
    """On Kubernetes: since when it has a node; before, since when it was made."""
    incarnation: str = ""
    alive: bool = True
    """Its process exists. A dead pod stays in view until it is forgotten."""
    ready: bool = False
    """Its readiness check passes."""
    ever_ready: bool = False
    unready_since: float | None = None
    """Since when a pod that was ready is not; one slow answer makes it so for a moment."""
    answered_at: float | None = None
    """When its health route last answered; on Kubernetes: when its lease was last seen renewed, and while no
    lease can be seen, now."""
    told_at: float | None = None
    """When it last said itself which incarnation it is."""
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
    zone: str = ""
    scheduled: bool = True
    """It has a node."""
    node_lost: bool = False
    """Nothing is heard of its node: what was asked of it may never happen, and it may come back."""
    delivers: bool | None = None
    """Messages that the prober sends through it arrive; None: unknown."""
    undelivered_since: float | None = None

    @property
    def draining(self) -> bool:
        return self.drain_intent or self.drain_told

    @property
    def gone(self) -> bool:
        """Nothing of it can be counted on, and nothing more can be asked of it."""
        return not self.alive or (self.stopping and self.node_lost)


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


class DeliveryView(Struct, frozen=True, kw_only=True):
    """What the prober last said of all pods together. Latencies in ms; `gaps`: messages that did not arrive."""

    healthy: bool | None
    """None: the prober does not say."""
    since: float
    """Since when it is so."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    gaps: int = 0
    checked_at: float | None = None
    message: str = ""
    """In words, what is wrong."""


class Observed(Struct, frozen=True, kw_only=True):
    """`registry` is None while Redis does not answer; `delivery` where nobody measures."""

    pods: tuple[PodView, ...] = ()
    registry: RegistryView | None = None
    registry_since: float | None = None
    """Since when Redis answers, or, while it does not, since when not."""
    storage_up: bool = True
    """False while the store is known to be away: nothing is then held against a revision."""
    delivery: DeliveryView | None = None
    desired: int | None = None
    """Chat pods wanted, as `autoscale` decided; None: what the spec says."""
    undone: frozenset[str] = frozenset()
    """Revisions of chat pods that were given up, and `last_good`, which is wanted instead ("" is none)."""
    last_good: str = ""
    held: frozenset[str] = frozenset()
    """Revisions of chat pods that cannot start yet, as the store's tables are not theirs: until then what serves."""
    failures: dict[tuple[PodKind, str], Failures] = {}
    disturbed_at: float | None = None
    """When a chat pod last failed or joined: what rebalancing waits for."""
    shed_at: float | None = None
    rebalance_asked_at: float | None = None
    """When a person last asked for a round of rebalancing."""


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
    """`for_good`: no run of this pod may register again. It is gone, or as good as."""

    pod: str
    incarnation: str
    reason: str
    for_good: bool = False


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
