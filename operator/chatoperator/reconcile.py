"""The loop: observe, plan, apply. One task per cluster; events only wake it, and it looks again by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from chatkernel.errors import ChatError
from chatoperator.again import Again
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
from chatoperator.plan import plan
from chatoperator.spec import ChatCluster

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
STALL_S = 5.0
"""After the operator itself did not run for this long, what it knows of pods is old."""
STALL_PAUSE_S = 3.0


class RegistryPort(Protocol):
    """The registry as the operator needs it. Raises ChatError(REDIS_UNAVAILABLE) or TimeoutError."""

    async def observe(self, now: float) -> RegistryView: ...

    async def remove(self, pod: str, incarnation: str) -> None: ...

    async def set_policy(self, serving_revision: str, excluded: frozenset[str]) -> None: ...


class Reconciler:
    """`cluster` is asked before each plan, so a changed resource is seen at once."""

    def __init__(
        self,
        place: PlaceForPods,
        registry: RegistryPort,
        cluster: Callable[[], ChatCluster],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._registry, self._cluster, self._now = place, registry, cluster, now
        self._wake = asyncio.Event()
        self.history = History()
        self.observed = Observed()
        self._told: dict[str, str] = {}
        self._failed: dict[tuple[str, str], str] = {}
        """What of the last plan could not be done, and why."""
        self._again = Again()
        self._stepped = asyncio.Event()

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def until(self, condition: Callable[[Observed], bool]) -> None:
        """Returns when an observation satisfies the condition."""
        while not condition(self.observed):
            await self._stepped.wait()

    async def run(self, stop: asyncio.Event) -> None:
        last = self._now()
        while not stop.is_set():
            if self._now() - last > STALL_S:
                log.warning("the operator was not running", extra={"for_s": round(self._now() - last, 1)})
                await asyncio.sleep(STALL_PAUSE_S)
            self._wake.clear()
            with self._again("a round of the operator"):
                await self.step()
            last = self._now()
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> list[Action]:
        """One round; returns what was decided."""
        registry = await self._look_at_registry()
        now = self._now()
        self.observed = self.history.look(self._place.observe(), registry, now)
        actions = plan(self._cluster().spec, self.observed, now)
        await self._apply_all(actions)
        self._stepped.set()
        self._stepped = asyncio.Event()
        return actions

    async def _look_at_registry(self) -> RegistryView | None:
        with self._again("reading the registry"):
            try:
                return await self._registry.observe(self._now())
            except (ChatError, TimeoutError):
                return None
        return None

    async def _apply_all(self, actions: list[Action]) -> None:
        """What fails holds up nothing else, and is told once: the next plan asks for it again."""
        failed: dict[tuple[str, str], str] = {}
        for action in actions:
            try:
                await self._apply(action)
            except (PlaceError, ChatError, OSError) as error:  # TimeoutError is an OSError
                what = (type(action).__name__, _subject(action))
                failed[what] = str(error)
                if self._failed.get(what) != failed[what]:
                    log.warning("not done", extra={"action": what[0], "error": str(error)})
        self._failed = failed

    async def _apply(self, action: Action) -> None:
        cluster, place = self._cluster(), self._place
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
                self._told.pop(pod, None)
            case Shed(pod, count, reason):
                await place.shed(pod, count, cluster.spec.rebalance.rate_per_second)
                self.history.shed_at = self._now()
                self._tell("rebalance", pod, f"moves {count} clients: {reason}")
            case RemoveEntry(pod, incarnation, reason):
                await self._registry.remove(pod, incarnation)
                self._tell("unregister", pod, reason)
            case SetPolicy(serving_revision, excluded):
                await self._registry.set_policy(serving_revision, excluded)

    def _tell(self, what: str, pod: str, reason: str) -> None:
        """Every action once: an order that has to be repeated is no news."""
        if self._told.get(pod) != what:
            self._told[pod] = what
            log.info(what, extra={"of": pod, "reason": reason})


def _subject(action: Action) -> str:
    match action:
        case Start(kind):
            return kind
        case SetPolicy():
            return ""
        case _:
            return action.pod
