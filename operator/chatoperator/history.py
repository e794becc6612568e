"""What the operator remembers between two looks: early deaths in a row, and when pods last came or went."""

from __future__ import annotations

from collections.abc import Sequence

from chatoperator.model import Failures, PodKind, PodView

LIVED_S = 5.0
"""A ready pod that lived longer than this did not die young."""


class History:
    """`note` is given every observation, in order."""

    def __init__(self) -> None:
        self.failures: dict[tuple[PodKind, str], Failures] = {}
        self.disturbed_at: float | None = None
        self.shed_at: float | None = None
        self._before: dict[str, PodView] = {}

    def note(self, pods: Sequence[PodView], now: float) -> None:
        for pod in pods:
            before = self._before.get(pod.name)
            was_alive, was_ready = before is None or before.alive, before is not None and before.ever_ready
            if not pod.alive and was_alive and not pod.stopping:
                self._died(pod, now)
            if pod.alive and pod.ever_ready and not was_ready:
                self._joined(pod, pods, now)
        self._before = {pod.name: pod for pod in pods}

    def _died(self, pod: PodView, now: float) -> None:
        key = (pod.kind, pod.revision)
        young = not pod.ever_ready or now - pod.started_at <= LIVED_S
        count = self.failures.get(key, Failures(0, now)).count + 1 if young else 0
        self.failures[key] = Failures(count, now)
        if pod.kind is PodKind.CHAT:
            self.disturbed_at = now

    def _joined(self, pod: PodView, pods: Sequence[PodView], now: float) -> None:
        busy = any(other.name != pod.name and other.ready and other.connections for other in pods)
        if pod.kind is PodKind.CHAT and busy:
            self.disturbed_at = now
