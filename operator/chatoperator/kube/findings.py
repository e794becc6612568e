"""What pods and Deployments say is wrong with them, in the operator's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from chatoperator.facts import Finding, Replicas
from chatoperator.kube.errors import Forbidden, Foreign, Invalid, KubeError, QuotaExceeded
from chatoperator.kube.kinds import Object, name_of
from chatoperator.kube.podview import is_stopping
from chatoperator.reasons import Reason

NO_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
"""Reasons of a container that waits for its image."""
CRASHES = frozenset({"CrashLoopBackOff", "RunContainerError", "CreateContainerError", "StartError"})
CRASHES_MIN = 2
"""One end may be anything."""


def problems_of_pods(pods: Iterable[Object]) -> list[Finding]:
    """At most one of each reason, of the first pod that has it."""
    found: dict[Reason, Finding] = {}
    for pod in pods:
        problem = None if is_stopping(pod) else _problem_of(pod)
        if problem is not None:
            found.setdefault(problem.reason, problem)
    return list(found.values())


def problem_of_error(error: KubeError) -> Finding | None:
    """None when it is nothing that a person has to see to: it will be tried again."""
    if isinstance(error, QuotaExceeded):
        return Finding(Reason.QUOTA_EXCEEDED, str(error))
    if isinstance(error, Foreign):
        return Finding(Reason.NAME_TAKEN, str(error))
    if isinstance(error, Forbidden | Invalid):
        return Finding(Reason.FORBIDDEN, str(error))
    return None


def problem_of_deployment(deployment: Object) -> Finding | None:
    """What its controller could not do (a quota, an admission rule), or that its new pods do not get ready."""
    conditions = (deployment.get("status") or {}).get("conditions") or []
    said = {
        (found["type"], found["status"], found.get("reason")): found.get("message", "")
        for found in conditions
    }
    for (kind, status, _), message in said.items():
        if (kind, status) == ("ReplicaFailure", "True"):
            is_quota = "exceeded quota" in message
            reason = Reason.QUOTA_EXCEEDED if is_quota else Reason.FORBIDDEN
            return Finding(reason, f"{name_of(deployment)}: {message}")
    stuck = said.get(("Progressing", "False", "ProgressDeadlineExceeded"))
    if stuck is not None:
        return Finding(Reason.DEPLOYMENT_STUCK, f"{name_of(deployment)}: {stuck.removesuffix('.')}")
    return None


def replicas_of(deployment: Object | None, desired: int) -> Replicas:
    """What it has told of its newest template."""
    if deployment is None:
        return Replicas(desired)
    status = deployment.get("status") or {}
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return Replicas(
        desired, status.get("readyReplicas", 0), status.get("updatedReplicas", 0) if current else 0
    )


def _problem_of(pod: Object) -> Finding | None:
    status, name = pod.get("status") or {}, name_of(pod)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason"), waiting.get("message") or ""
        if reason in NO_IMAGE:
            return Finding(Reason.IMAGE_UNAVAILABLE, f"{name}: {container.get('image')}: {said or reason}")
        if reason == "CreateContainerConfigError":
            return Finding(Reason.SECRET_MISSING, f"{name}: {said}")
        if reason in CRASHES and container.get("restartCount", 0) >= CRASHES_MIN:
            return Finding(Reason.PODS_CRASH, f"{name}: {said or reason}{_last_words(container)}")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Finding(Reason.PODS_UNSCHEDULABLE, f"{name}: {condition.get('message', '')}")
    return None


def _last_words(container: Object) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    said = str(ended.get("message") or "").strip().splitlines()
    return f" ({said[-1]})" if said else ""
