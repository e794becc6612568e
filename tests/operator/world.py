"""A small simulated world: pods that start, serve, drain, freeze, fall silent and die, one tick a second.

With `kubernetes` it is one of nodes and zones, with a prober, and the operator thinks with its memory; without, it is
the laptop, where the plan is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from chatoperator.history import History
from chatoperator.model import (
    Action,
    Delete,
    DeliveryView,
    Drain,
    EntryView,
    Forget,
    Observed,
    PodKind,
    PodView,
    RegistryView,
    RemoveEntry,
    SetPolicy,
    Shed,
    Start,
    Undrain,
)
from chatoperator.plan import plan
from chatoperator.round import Memory, think
from chatoperator.spec import ApiPods, Autoscaling, ChatPods, Rollout, Spec, Worker
from chatoperator.spec import Drain as DrainSpec

LEASE_S = 5
NODE_LOST_S = 8
"""Until a node that was cut off is known to be lost (Kubernetes takes 40 s)."""
ZONES = ("a", "b", "c")


@dataclass
class SimPod:
    name: str
    kind: PodKind
    revision: str
    started_at: int
    start_s: int = 1
    zone: str = ""
    scheduled: bool = True
    alive: bool = True
    frozen: bool = False
    cut_at: int | None = None
    """Its node has no network since then."""
    mute_since: int | None = None
    """It accepts clients and delivers nothing since then."""
    stuck: bool = False
    """It never gets ready."""
    deaf: bool = False
    """Redis cannot be reached from it."""
    drain_intent: bool = False
    drain_told: bool = False
    draining_since: float | None = None
    condemned: bool = False
    stopping_since: int | None = None
    connections: int = 0
    answered_at: int | None = None
    ever_ready: bool = False
    blinks_until: int = 0
    """It serves, and its health route does not answer in time."""
    unready_since: int | None = None

    def is_ready(self, now: int) -> bool:
        awake = self.alive and not self.frozen and self.stopping_since is None and self.cut_at is None
        started = self.scheduled and not self.stuck and now - self.started_at >= self.start_s
        return awake and not self.drain_told and started

    def seems_ready(self, now: int) -> bool:
        if self.cut_at is not None:  # nobody tells otherwise until the node is known to be lost
            return self.ever_ready and now - self.cut_at < NODE_LOST_S
        return self.is_ready(now) and now >= self.blinks_until

    def delivers(self, now: int) -> bool:
        return self.is_ready(now) and self.mute_since is None


@dataclass
class World:
    """`clients` people are spread over the pods that discovery would give them."""

    clients: int = 20
    kubernetes: bool = False
    redis_up: bool = True
    now: int = 1000
    pods: list[SimPod] = field(default_factory=list)
    zombies: list[SimPod] = field(default_factory=list)
    """Pods that the control plane knows no more and that still run, cut off."""
    entries: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    """Names that may never register again."""
    policy: SetPolicy = field(default_factory=lambda: SetPolicy("", frozenset()))
    start_s: int = 1
    room: int = 1000
    """Chat pods that nodes have room for."""
    bad_revisions: set[str] = field(default_factory=set)
    stuck_revisions: set[str] = field(default_factory=set)
    mute_revisions: set[str] = field(default_factory=set)
    held_revisions: set[str] = field(default_factory=set)
    """Those whose tables are not made yet."""
    names: int = 0
    memory: Memory = field(default_factory=Memory)
    operator: History = field(default_factory=History)
    rebalance_asked_at: float | None = None
    unhealthy_since: float | None = None
    history: list[Action] = field(default_factory=list)

    # -- what the operator sees

    def observed(self) -> Observed:
        registry = None
        if self.redis_up:
            entries = tuple(
                EntryView(name, name + "/i", self.now - at <= LEASE_S)
                for name, at in sorted(self.entries.items())
            )
            registry = RegistryView(entries, self.policy.serving_revision, self.policy.excluded)
        observed = self.operator.look([self._view(pod) for pod in self.pods], registry, float(self.now))
        return msgspec.structs.replace(
            observed,
            delivery=self._delivery(),
            rebalance_asked_at=self.rebalance_asked_at,
            held=frozenset(self.held_revisions),
        )

    def _view(self, pod: SimPod) -> PodView:
        known = self.redis_up and pod.name in self.entries
        is_probed = self.kubernetes and known and pod.is_ready(self.now)
        told = pod.answered_at is not None
        return PodView(
            name=pod.name,
            kind=pod.kind,
            revision=pod.revision,
            started_at=pod.started_at,
            incarnation=pod.name + "/i" if pod.kind is PodKind.CHAT else "",
            alive=pod.alive,
            ready=pod.seems_ready(self.now),
            ever_ready=pod.ever_ready,
            unready_since=pod.unready_since,
            answered_at=pod.answered_at,
            told_at=pod.answered_at,
            drain_intent=pod.drain_intent,
            drain_told=pod.drain_told,
            draining_since=pod.draining_since,
            condemned=pod.condemned,
            stopping=pod.stopping_since is not None,
            connections=pod.connections if told else None,
            zone=pod.zone,
            scheduled=pod.scheduled,
            node_lost=pod.cut_at is not None and self.now - pod.cut_at >= NODE_LOST_S,
            delivers=pod.mute_since is None if is_probed else None,
            undelivered_since=pod.mute_since if is_probed else None,
        )

    def _delivery(self) -> DeliveryView | None:
        if not self.kubernetes:
            return None
        fails = any(pod.mute_since is not None and pod.is_ready(self.now) for pod in self.kind(PodKind.CHAT))
        self.unhealthy_since = (self.unhealthy_since or self.now) if fails else None
        healthy = None if not self.redis_up else not fails
        return DeliveryView(healthy=healthy, since=self.unhealthy_since or 0.0, checked_at=self.now)

    # -- one tick

    def step(self, spec: Spec) -> list[Action]:
        observed, now = self.observed(), float(self.now)
        if self.kubernetes:
            thought = think(spec, observed, self.memory, now, (PodKind.CHAT,))
            self.memory, actions = thought.memory, list(thought.actions)
        else:
            actions = plan(spec, observed, now)
        for action in actions:
            self.apply(action)
        self.history += actions
        self.tick()
        return actions

    def tick(self) -> None:
        self.now += 1
        for pod in (*self.pods, *self.zombies):
            self._register(pod)
            if self.kubernetes and not self.redis_up:  # while no lease can be seen, nobody is silent
                pod.answered_at = self.now
        for pod in self.pods:
            self._live(pod)
        self.seat_clients()

    def _register(self, pod: SimPod) -> None:
        """Even if it is to end, until it has: it may have been cut off when that was asked for."""
        if pod.kind is not PodKind.CHAT or not pod.alive or pod.frozen or pod.cut_at is not None or pod.deaf:
            return
        if pod.ever_ready and self.redis_up and pod.name not in self.ended:
            self.entries[pod.name] = pod.answered_at = self.now

    def _live(self, pod: SimPod) -> None:
        if not pod.scheduled and self._scheduled() < self.room:
            pod.scheduled, pod.started_at = True, self.now
        if pod.alive and pod.cut_at is None and pod.stopping_since is not None:
            self.die(pod)
        if pod.alive and pod.revision in self.bad_revisions and self.now - pod.started_at >= 1:
            self.die(pod)
        if pod.ever_ready and not pod.seems_ready(self.now):
            pod.unready_since = self.now if pod.unready_since is None else pod.unready_since
        else:
            pod.unready_since = None
        if not pod.alive or pod.frozen or pod.cut_at is not None or self.now < pod.blinks_until:
            return
        if not self.kubernetes:
            pod.answered_at = self.now
        if pod.is_ready(self.now) and not pod.ever_ready:
            pod.ever_ready = True
            pod.mute_since = self.now if pod.revision in self.mute_revisions else None
            self._register(pod)
        if pod.drain_told:
            pod.connections = max(0, pod.connections - 10)

    def _scheduled(self) -> int:
        return sum(pod.scheduled and pod.kind is PodKind.CHAT and pod.alive for pod in self.pods)

    def seat_clients(self) -> None:
        chat = [pod for pod in self.pods if pod.kind is PodKind.CHAT and pod.alive and pod.cut_at is None]
        waiting = self.clients - sum(pod.connections for pod in chat)
        seats = [pod for pod in self.given_out() if pod.is_ready(self.now)]
        for _ in range(waiting if seats else 0):
            min(seats, key=lambda pod: (pod.connections, pod.name)).connections += 1
        for pod in chat if waiting < 0 else []:  # people leave
            left = min(pod.connections, -waiting)
            pod.connections, waiting = pod.connections - left, waiting + left

    def given_out(self) -> list[SimPod]:
        """The pods that discovery hands out."""
        serving = self.policy.serving_revision
        return [
            pod
            for pod in self.pods
            if pod.name in self.entries
            and self.now - self.entries[pod.name] <= LEASE_S
            and pod.name not in self.policy.excluded
            and serving in ("", pod.revision)
            and not pod.drain_told
        ]

    # -- what the operator does

    def apply(self, action: Action) -> None:
        match action:
            case Start(kind, revision):
                self._start(kind, revision)
            case Drain(name):
                pod = self.pod(name)
                pod.drain_intent, pod.drain_told = True, not pod.frozen and pod.cut_at is None
                pod.draining_since = self.now if pod.draining_since is None else pod.draining_since
            case Undrain(name):
                pod = self.pod(name)
                if not pod.frozen:
                    pod.drain_intent, pod.drain_told, pod.draining_since = False, False, None
            case Delete(name):
                pod = self.pod(name)
                pod.stopping_since = self.now if pod.stopping_since is None else pod.stopping_since
            case Forget(name):
                self.pods.remove(self.pod(name))
            case RemoveEntry(name):
                self.entries.pop(name, None)
                self.ended |= {name} if action.for_good else set()
            case SetPolicy():
                self.policy = action
            case Shed(name, count):
                self.pod(name).connections -= count
                self.operator.shed_at = float(self.now)

    def _start(self, kind: PodKind, revision: str) -> None:
        assert revision not in self.held_revisions
        self.names += 1
        pod = SimPod(f"{kind}-{self.names}", kind, revision, self.now, self.start_s)
        pod.stuck = revision in self.stuck_revisions
        pod.zone = ZONES[self.names % len(ZONES)] if self.kubernetes else ""
        pod.scheduled = kind is not PodKind.CHAT or self._scheduled() < self.room
        self.pods.append(pod)

    def pod(self, name: str) -> SimPod:
        return next(pod for pod in self.pods if pod.name == name)

    def die(self, pod: SimPod) -> None:
        pod.alive, pod.connections = False, 0

    def mend(self) -> None:
        """All nodes have network again. Who was connected to pods that were cut off is elsewhere by now."""
        for pod in (*self.pods, *self.zombies):
            if pod.cut_at is not None:
                pod.cut_at, pod.connections = None, 0

    # -- what tests ask

    def kind(self, kind: PodKind) -> list[SimPod]:
        return [pod for pod in self.pods if pod.kind is kind and pod.alive]

    def serving(self) -> list[SimPod]:
        return [pod for pod in self.kind(PodKind.CHAT) if pod.is_ready(self.now) and not pod.drain_intent]

    def settle(self, spec: Spec, ticks: int = 150) -> None:
        for _ in range(ticks):
            self.step(spec)


def make_spec(
    replicas: int = 2,
    *,
    surge: int = 1,
    version: str = "1",
    deadline_s: float = 5.0,
    api: int = 1,
    worker: int = 1,
    autoscaling: Autoscaling | None = None,
    per_pod: int = 10_000,
    ready_deadline_s: float = 60.0,
) -> Spec:
    return msgspec.structs.replace(
        Spec(),
        version=version,
        chat_pods=ChatPods(replicas=replicas, autoscaling=autoscaling, connections_per_pod=per_pod),
        api_pods=ApiPods(replicas=api),
        worker=Worker(replicas=worker),
        drain=DrainSpec(deadline_seconds=deadline_s),
        rollout=Rollout(surge=surge, ready_deadline_seconds=ready_deadline_s),
    )
