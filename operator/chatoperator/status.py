"""What a cluster says of itself, from what the operator sees. Pure."""

from __future__ import annotations

from collections import Counter

from chatoperator.autoscale import load_of
from chatoperator.conditions import conditions, phase_of, rfc3339
from chatoperator.facts import Facts, chat_pods
from chatoperator.model import Observed, PodKind, PodView
from chatoperator.resource_status import (
    ChatPodsStatus,
    DeliveryStatus,
    PodsStatus,
    RevisionStatus,
    ScalingStatus,
    Status,
    UndoneStatus,
)
from chatoperator.revision import revision_of
from chatoperator.rollout import wanted_replicas, wanted_revision
from chatoperator.spec import ChatCluster, Spec

SILENT_S = 3.0
REVISIONS_MAX = 50


def cluster_phase(spec: Spec, observed: Observed, *, was_ready: bool) -> str:
    """Paused, Starting, Degraded (too few ready pods, or no Redis), Progressing, or Running."""
    if spec.pause:
        return "Paused"
    short = [
        kind
        for kind in PodKind
        if sum(pod.ready and not pod.draining for pod in observed.pods if pod.kind is kind)
        < wanted_replicas(spec, observed, kind)
    ]
    if short and not was_ready:
        return "Starting"
    if observed.registry is None or any(_serves_nobody(kind, observed) for kind in short):
        return "Degraded"
    settled = not short and all(
        pod.ready
        and not (pod.draining or pod.condemned)
        and pod.revision == wanted_revision(spec, observed, pod.kind)
        for pod in observed.pods
    )
    return "Running" if settled else "Progressing"


def _serves_nobody(kind: PodKind, observed: Observed) -> bool:
    return not any(pod.ready for pod in observed.pods if pod.kind is kind)


def is_ready(spec: Spec, observed: Observed) -> bool:
    """As many ready pods of each kind as wanted, and Redis answers."""
    return observed.registry is not None and all(
        sum(pod.ready for pod in observed.pods if pod.kind is kind) >= wanted_replicas(spec, observed, kind)
        for kind in PodKind
    )


def pod_phase(pod: PodView, now: float) -> str:
    """dead, stopping, draining, starting, silent, leaving, ready, or not ready."""
    if not pod.alive:
        return "dead"
    if pod.stopping:
        return "stopping"
    if pod.draining:
        return "draining"
    if not pod.ever_ready:
        return "starting"
    if pod.answered_at is None or now - pod.answered_at > SILENT_S:
        return "silent"
    if not pod.ready:
        return "not ready"
    return "leaving" if pod.condemned else "ready"


def resource_status(cluster: ChatCluster, facts: Facts, now: float, *, selector: str, url: str) -> Status:
    """The whole `status` of the resource. `now` is Unix time in seconds."""
    found = conditions(cluster, facts, now)
    return Status(
        observed_generation=facts.generation,
        phase=phase_of(cluster, facts, found, now),
        conditions=found,
        chat_pods=_chat_pods(cluster.spec, facts),
        api_pods=PodsStatus(facts.api.desired, facts.api.ready),
        worker=PodsStatus(facts.worker.desired, facts.worker.ready),
        revisions=_revisions(cluster.spec, facts),
        selector=selector,
        url=url,
        version=cluster.spec.version,
        image=cluster.spec.image,
        last_scaling=_last_scaling(facts),
        undone=_undone(facts),
        delivery=_delivery(facts.observed),
    )


def _chat_pods(spec: Spec, facts: Facts) -> ChatPodsStatus:
    pods = chat_pods(facts.observed)
    load = load_of(facts.observed)
    return ChatPodsStatus(
        desired=wanted_replicas(spec, facts.observed, PodKind.CHAT),
        replicas=len(pods),
        ready=sum(pod.ready and not (pod.draining or pod.stopping) for pod in pods),
        draining=sum(pod.draining or pod.stopping for pod in pods),
        connections=None if load.unknown else load.connections,
    )


def _revisions(spec: Spec, facts: Facts) -> list[RevisionStatus]:
    """The spec's first, then those with most pods."""
    pods = Counter(pod.revision for pod in chat_pods(facts.observed))
    ready = Counter(pod.revision for pod in chat_pods(facts.observed) if pod.ready)
    current, undone = revision_of(spec, PodKind.CHAT), facts.rollout.undone
    others = sorted(set(pods) - {current}, key=lambda name: (-pods[name], name))
    return [
        RevisionStatus(
            revision=name,
            version=spec.version if name == current else facts.versions.get(name, ""),
            current=name == current,
            pods=pods[name],
            ready=ready[name],
            failed=undone is not None and undone.revision == name,
            message=undone.reason if undone is not None and undone.revision == name else "",
        )
        for name in [current, *others][:REVISIONS_MAX]
    ]


def _last_scaling(facts: Facts) -> ScalingStatus | None:
    last = facts.decision.memory.last
    if last is None:
        return None
    return ScalingStatus(rfc3339(last.at), last.before, last.after, last.reason)


def _undone(facts: Facts) -> UndoneStatus | None:
    undone = facts.rollout.undone
    return None if undone is None else UndoneStatus(undone.revision, rfc3339(undone.at), undone.reason)


def _delivery(observed: Observed) -> DeliveryStatus | None:
    delivery = observed.delivery
    if delivery is None or delivery.checked_at is None:
        return None
    return DeliveryStatus(
        p50_ms=delivery.p50_ms,
        p99_ms=delivery.p99_ms,
        gaps=delivery.gaps,
        checked_at=rfc3339(delivery.checked_at),
    )
