"""A small simulated world: pods that start, serve, drain, freeze and die, one tick a second."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from chatoperator.model import (
    Action,
    Delete,
    Drain,
    EntryView,
    Failures,
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
from chatoperator.spec import ChatPods, Rollout, Spec
from chatoperator.spec import Drain as DrainSpec

LEASE_S = 5


@dataclass
class SimPod:
    name: str
    kind: PodKind
    revision: str
    started_at: int
    start_s: int = 1
    alive: bool = True
    frozen: bool = False
    drain_intent: bool = False
    drain_told: bool = False
    draining_since: float | None = None
    condemned: bool = False
    stopping_since: int | None = None
    connections: int = 0
    answered_at: int | None = None
    renewed_at: int | None = None
    ever_ready: bool = False
    blinks_until: int = 0
    """It serves, and its health route does not answer in time."""
    unready_since: int | None = None

    def is_ready(self, now: int) -> bool:
        awake = self.alive and not self.frozen and self.stopping_since is None
        return awake and not self.drain_told and now - self.started_at >= self.start_s

    def seems_ready(self, now: int) -> bool:
        return self.is_ready(now) and now >= self.blinks_until


@dataclass
class World:
    """`clients` people are spread over the pods that discovery would give them."""

    seed: int = 0
    clients: int = 20
    redis_up: bool = True
    now: int = 1000
    pods: list[SimPod] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    policy: SetPolicy = field(default_factory=lambda: SetPolicy("", frozenset()))
    failures: dict[tuple[PodKind, str], Failures] = field(default_factory=dict)
    disturbed_at: float | None = None
    shed_at: float | None = None
    start_s: int = 1
    bad_revisions: set[str] = field(default_factory=set)
    names: int = 0
    history: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    # -- what the operator sees

    def observed(self) -> Observed:
        registry = None
        if self.redis_up:
            entries = tuple(
                EntryView(name, name + "/i", self.now - at <= LEASE_S)
                for name, at in sorted(self.entries.items())
            )
            registry = RegistryView(entries, self.policy.serving_revision, self.policy.excluded)
        return Observed(
            pods=tuple(self._view(pod) for pod in self.pods),
            registry=registry,
            failures=dict(self.failures),
            disturbed_at=self.disturbed_at,
            shed_at=self.shed_at,
        )

    def _view(self, pod: SimPod) -> PodView:
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
            drain_intent=pod.drain_intent,
            drain_told=pod.drain_told,
            draining_since=pod.draining_since,
            condemned=pod.condemned,
            stopping=pod.stopping_since is not None,
            connections=pod.connections if pod.answered_at is not None else None,
        )

    # -- one tick

    def step(self, spec: Spec) -> list[Action]:
        actions = plan(spec, self.observed(), float(self.now))
        for action in actions:
            self.apply(action)
        self.history += actions
        self.tick()
        return actions

    def tick(self) -> None:
        self.now += 1
        for pod in self.pods:
            if pod.alive and pod.stopping_since is not None and self.now - pod.stopping_since >= 1:
                self.die(pod)
            if pod.alive and pod.revision in self.bad_revisions and self.now - pod.started_at >= 1:
                self.die(pod)
            if pod.ever_ready and not pod.seems_ready(self.now):
                pod.unready_since = self.now if pod.unready_since is None else pod.unready_since
            else:
                pod.unready_since = None
            if not pod.alive or pod.frozen or self.now < pod.blinks_until:
                continue
            pod.answered_at = self.now
            if pod.is_ready(self.now) and not pod.ever_ready:
                pod.ever_ready = True
                self.disturbed_at = self.now if pod.kind is PodKind.CHAT else self.disturbed_at
            if pod.kind is PodKind.CHAT and pod.ever_ready and self.redis_up:
                pod.renewed_at = self.entries[pod.name] = self.now
            if pod.drain_told:
                pod.connections = max(0, pod.connections - 10)
        self.seat_clients()

    def seat_clients(self) -> None:
        chat = [pod for pod in self.pods if pod.kind is PodKind.CHAT and pod.alive]
        waiting = self.clients - sum(pod.connections for pod in chat)
        seats = [pod for pod in self.given_out() if pod.is_ready(self.now)]
        for _ in range(waiting if seats else 0):
            min(seats, key=lambda pod: (pod.connections, pod.name)).connections += 1

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
                self.names += 1
                self.pods.append(SimPod(f"{kind}-{self.names}", kind, revision, self.now, self.start_s))
            case Drain(name):
                pod = self.pod(name)
                pod.drain_intent, pod.drain_told = True, not pod.frozen
                pod.draining_since = self.now if pod.draining_since is None else pod.draining_since
            case Undrain(name):
                pod = self.pod(name)
                if not pod.frozen:
                    pod.drain_intent, pod.drain_told, pod.draining_since = False, False, None
            case Delete(name):
                self.pod(name).stopping_since = self.now
            case Forget(name):
                self.pods.remove(self.pod(name))
            case RemoveEntry(name):
                self.entries.pop(name, None)
            case SetPolicy():
                self.policy = action
            case Shed(name, count):
                self.pod(name).connections -= count
                self.shed_at = self.now

    def pod(self, name: str) -> SimPod:
        return next(pod for pod in self.pods if pod.name == name)

    def die(self, pod: SimPod) -> None:
        pod.alive, pod.connections = False, 0
        if pod.stopping_since is None:
            self.disturbed_at = self.now
            key = (pod.kind, pod.revision)
            before = self.failures.get(key, Failures(0, 0.0))
            count = 0 if pod.ever_ready and self.now - pod.started_at > 5 else before.count + 1
            self.failures[key] = Failures(count, self.now)

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
) -> Spec:
    import msgspec

    from chatoperator.spec import ApiPods, Worker

    return msgspec.structs.replace(
        Spec(),
        version=version,
        chat_pods=ChatPods(replicas=replicas),
        api_pods=ApiPods(replicas=api),
        worker=Worker(replicas=worker),
        drain=DrainSpec(deadline_seconds=deadline_s),
        rollout=Rollout(surge=surge),
    )
