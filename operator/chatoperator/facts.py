"""What is known of a cluster when its status is written: plain values, and a few counts of them. Pure."""

from __future__ import annotations

from msgspec import Struct

from chatoperator.autoscale import Decision
from chatoperator.model import Observed, PodKind, PodView
from chatoperator.reasons import Reason
from chatoperator.resource_status import Condition, ConditionType, Truth
from chatoperator.rollout import RolloutMemory

BLINK_S = 5.0
"""A pod that was ready and is not for less than this has only answered slowly."""
MESSAGE_MAX_CHARS = 1024


class Finding(Struct, frozen=True):
    """Something that is so. `detail` says what exactly, in a sentence without a full stop; "" leaves it to the
    reason. `since`: when it was first seen, if that is known; what is new may be gone at the next look."""

    reason: Reason
    detail: str = ""
    since: float | None = None


class Verdict(Struct, frozen=True):
    """What a condition is to say. `since`: as with a finding."""

    truth: Truth
    reason: str
    message: str
    since: float | None = None


def verdict(truth: Truth, *findings: Finding) -> Verdict:
    """By the first finding; the message tells all of them, with what a person can do about each."""
    message = " ".join(told(finding) for finding in findings)
    return Verdict(truth, findings[0].reason.value, message[:MESSAGE_MAX_CHARS], findings[0].since)


def told(finding: Finding) -> str:
    """What is so, and the next step, in sentences."""
    reason = finding.reason
    said = f"{reason.meaning}: {finding.detail}" if finding.detail else reason.meaning
    return f"{said}. {reason.next_step}." if reason.next_step else f"{said}."


class Replicas(Struct, frozen=True):
    """Pods of a kind that somebody else counts: a Deployment. `updated`: those as the spec wants them."""

    desired: int = 0
    ready: int = 0
    updated: int = 0


class Facts(Struct, frozen=True, kw_only=True):
    """`observed` as `round.think` leaves it. `generation`: of the resource that all of this is about."""

    generation: int
    observed: Observed
    decision: Decision
    rollout: RolloutMemory = RolloutMemory()
    api: Replicas = Replicas()
    worker: Replicas = Replicas()
    storage: Finding = Finding(Reason.NOT_LOOKED_AT)
    registry: Finding | None = None
    """What is wrong with Redis besides that it does not answer: its Secret, its refusal."""
    problems: tuple[Finding, ...] = ()
    """What hinders the operator: Secrets, images, quotas, rights, the resource itself; the worst first."""
    created_at: float = 0.0
    """When the resource was made (Unix s)."""
    versions: dict[str, str] = {}
    """The releases of revisions of chat pods."""
    before: tuple[Condition, ...] = ()
    """The conditions as they were last written."""

    def last(self, kind: ConditionType) -> Condition | None:
        return next((condition for condition in self.before if condition.type == kind), None)

    def was(self, kind: ConditionType) -> bool:
        last = self.last(kind)
        return last is not None and last.status is Truth.TRUE


def chat_pods(observed: Observed) -> list[PodView]:
    """Those that are there."""
    return [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone]


def takes_clients(pod: PodView, now: float) -> bool:
    """It is ready, or was a moment ago, and stays."""
    blinks = pod.ever_ready and pod.unready_since is not None and now - pod.unready_since < BLINK_S
    return (pod.ready or blinks) and not (pod.gone or pod.stopping or pod.draining)
