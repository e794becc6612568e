"""What a new leader remembers of the time before it: it stands in the status and on the revisions. Pure."""

from __future__ import annotations

from chatoperator.autoscale import Scaling, ScalingMemory
from chatoperator.kube.podview import unix_s
from chatoperator.resource_status import Status
from chatoperator.rollout import RolloutMemory, Undone
from chatoperator.round import Memory


def read_memory(status: Status, last_good: str, now: float) -> Memory:
    """`last_good`: a revision, "" if none is known."""
    undone = status.undone
    return Memory(
        scaling=_scaling(status, now),
        rollout=RolloutMemory(
            last_good=last_good,
            undone=None if undone is None else Undone(undone.revision, unix_s(undone.at, now), undone.reason),
            # What was given up stays so: the spec still names it.
            wanted="" if undone is None else undone.revision,
            wanted_since=now,
        ),
    )


def _scaling(status: Status, now: float) -> ScalingMemory:
    last = status.last_scaling
    return ScalingMemory(
        replicas=status.chat_pods.desired or None,
        last=None if last is None else Scaling(unix_s(last.at, now), last.from_, last.to, last.reason),
    )
