"""What was done to a cluster, in sentences: to its log and as Events."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from chatoperator.kube.events import Events, EventType, Regarding
from chatoperator.kube.metrics import Counts
from chatoperator.resource_status import Condition, Truth

log = logging.getLogger(__name__)

SENTENCES = {
    "start": ("PodStarted", "Started the chat pod {pod}: {why}"),
    "drain": ("PodDraining", "Drains the chat pod {pod}: {why}"),
    "undrain": ("DrainTakenBack", "Took back the drain of the chat pod {pod}: it {why}"),
    "stop": ("PodStopped", "Ended the chat pod {pod}: {why}"),
    "rebalance": ("Rebalanced", "The chat pod {pod} {why}"),
    "unregister": ("EntryRemoved", "Removed the entry of {pod} from the registry: {why}"),
}
"""For each action: the event's reason, and its note."""
BAD = {
    "Degraded": Truth.TRUE,
    "StorageReady": Truth.FALSE,
    "RegistryReady": Truth.FALSE,
    "DeliveryHealthy": Truth.FALSE,
}
"""The conditions whose turn for the worse is a warning."""


class Telling:
    """Of one cluster."""

    def __init__(self, events: Events, about: Regarding, counts: Counts) -> None:
        self._events, self._about, self._counts = events, about, counts

    def action(self, what: str, pod: str, why: str) -> None:
        reason, sentence = SENTENCES[what]
        self._counts.actions[what] += 1
        log.info(what, extra={"cluster": self._cluster, "of": pod, "reason": why})
        self._events.tell(self._about, reason, reason, sentence.format(pod=pod, why=why))

    def put_back(self, objects: Iterable[str]) -> None:
        """`objects`: each with what had been done to it."""
        for changed in objects:
            self._counts.put_back += 1
            self.note("PutBack", f"{changed}, and is again as the resource says", warn=True)

    def removed(self, objects: Iterable[str]) -> None:
        for gone in objects:
            self.note("Removed", f"Removed {gone}: the resource does not ask for it any more")

    def conditions(self, before: Iterable[Condition], now: Iterable[Condition]) -> None:
        """Those that turned, and those of the bad ones whose reason did."""
        known = {condition.type: condition for condition in before}
        for condition in now:
            old = known.get(condition.type)
            is_bad = BAD.get(condition.type) is condition.status
            turned = old is not None and old.status is not condition.status
            if turned or (is_bad and (old is None or old.reason != condition.reason)):
                message = f"{condition.type} is {condition.status}: {condition.message or condition.reason}"
                self.note(condition.reason, message, warn=is_bad)

    def note(self, reason: str, sentence: str, *, warn: bool = False) -> None:
        log.log(logging.WARNING if warn else logging.INFO, sentence, extra={"cluster": self._cluster})
        kind = EventType.WARNING if warn else EventType.NORMAL
        self._events.tell(self._about, reason, reason, sentence, kind)

    @property
    def _cluster(self) -> str:
        return f"{self._about.namespace}/{self._about.owner.name}"
