"""What a cluster says of itself, from what the operator sees. Pure."""

from __future__ import annotations

from chatoperator.model import Observed, PodKind, PodView
from chatoperator.revision import replicas_of, revision_of
from chatoperator.spec import Spec

SILENT_S = 3.0


def cluster_phase(spec: Spec, observed: Observed, *, was_ready: bool) -> str:
    """Paused, Starting, Degraded (too few ready pods, or no Redis), Progressing, or Running."""
    if spec.pause:
        return "Paused"
    short = [
        kind
        for kind in PodKind
        if sum(pod.ready and not pod.draining for pod in observed.pods if pod.kind is kind)
        < replicas_of(spec, kind)
    ]
    if short and not was_ready:
        return "Starting"
    if observed.registry is None or any(_serves_nobody(kind, observed) for kind in short):
        return "Degraded"
    settled = not short and all(
        pod.ready and not pod.draining and not pod.condemned and pod.revision == revision_of(spec, pod.kind)
        for pod in observed.pods
    )
    return "Running" if settled else "Progressing"


def _serves_nobody(kind: PodKind, observed: Observed) -> bool:
    return not any(pod.ready for pod in observed.pods if pod.kind is kind)


def is_ready(spec: Spec, observed: Observed) -> bool:
    """As many ready pods of each kind as wanted, and Redis answers."""
    return observed.registry is not None and all(
        sum(pod.ready for pod in observed.pods if pod.kind is kind) >= replicas_of(spec, kind)
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
