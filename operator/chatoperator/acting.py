"""Carries out what was decided: one action after another, each told once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from chatkernel.errors import ChatError
from chatoperator.history import History
from chatoperator.model import (
    Action,
    Delete,
    Drain,
    Forget,
    Observed,
    RegistryView,
    RemoveEntry,
    SetPolicy,
    Shed,
    Start,
    Undrain,
)
from chatoperator.place import DrainOrder, PlaceError, PlaceForPods, PodSpec
from chatoperator.spec import ChatCluster

log = logging.getLogger(__name__)

Failure = PlaceError | ChatError | OSError


class RegistryWrites(Protocol):
    """What actions need of the registry. Raises ChatError(REDIS_UNAVAILABLE) or TimeoutError."""

    async def remove(self, pod: str, incarnation: str, *, for_good: bool = False) -> None: ...

    async def set_policy(self, serving_revision: str, excluded: frozenset[str]) -> None: ...


class RegistryPort(RegistryWrites, Protocol):
    """The registry as the operator needs it. Raises as `RegistryWrites`."""

    async def observe(self, now: float) -> RegistryView: ...


def _log(what: str, pod: str, reason: str) -> None:
    log.info(what, extra={"of": pod, "reason": reason})


class Acting:
    """`tell` is given each action once, in words: what (start, drain, undrain, stop, rebalance, unregister), to which
    pod, and why. An order that has to be repeated is no news."""

    def __init__(
        self,
        place: PlaceForPods,
        registry: RegistryWrites,
        history: History,
        *,
        tell: Callable[[str, str, str], None] = _log,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._registry, self._history = place, registry, history
        self._tell_all, self._now = tell, now
        self._told: dict[str, str] = {}
        self._failed: dict[tuple[str, str], str] = {}
        """What of the last plan could not be done, and why."""

    async def apply(
        self, cluster: ChatCluster, actions: Iterable[Action], observed: Observed
    ) -> list[Failure]:
        """What fails holds up nothing else, and is told once: the next plan asks for it again. `observed` is what was
        planned by."""
        self._forget_others(observed)
        failed: dict[tuple[str, str], str] = {}
        failures: list[Failure] = []
        for action in actions:
            try:
                await self._apply(cluster, action)
            except (PlaceError, ChatError, OSError) as error:  # TimeoutError is an OSError
                what = (type(action).__name__, _subject(action))
                failed[what] = str(error)
                failures.append(error)
                if self._failed.get(what) != failed[what]:
                    log.warning("not done", extra={"action": what[0], "error": str(error)})
        self._failed = failed
        return failures

    async def _apply(self, cluster: ChatCluster, action: Action) -> None:
        place = self._place
        match action:
            case Start(kind, revision, reason):
                name = await place.start(PodSpec(kind, revision, cluster))
                self._tell("start", name, reason)
            case Drain(pod, reason):
                drain = cluster.spec.drain
                await place.drain(pod, DrainOrder(drain.deadline_seconds, drain.rate_per_second))
                self._tell("drain", pod, reason)
            case Undrain(pod, reason):
                await place.undrain(pod)
                self._tell("undrain", pod, reason)
            case Delete(pod, reason, grace_s):
                await place.stop(pod, grace_s)
                self._tell("stop", pod, reason)
            case Forget(pod, _):
                await place.forget(pod)
            case Shed(pod, count, reason):
                await place.shed(pod, count, cluster.spec.rebalance.rate_per_second)
                self._history.shed_at = self._now()
                self._told.pop(pod, None)  # another round is news
                self._tell("rebalance", pod, f"moves {count} clients: {reason}")
            case RemoveEntry(pod, incarnation, reason, for_good):
                await self._registry.remove(pod, incarnation, for_good=for_good)
                self._tell("unregister", pod, reason)
            case SetPolicy(serving_revision, excluded):
                await self._registry.set_policy(serving_revision, excluded)

    def _forget_others(self, observed: Observed) -> None:
        """What was told of names that are no more. While the registry is not seen, they may be in it."""
        if observed.registry is not None:
            known = {pod.name for pod in observed.pods} | {entry.name for entry in observed.registry.entries}
            self._told = {name: what for name, what in self._told.items() if name in known}

    def _tell(self, what: str, pod: str, reason: str) -> None:
        if self._told.get(pod) != what:
            self._told[pod] = what
            self._tell_all(what, pod, reason)


def _subject(action: Action) -> str:
    match action:
        case Start(kind):
            return kind
        case SetPolicy():
            return ""
        case _:
            return action.pod
