"""What the operator remembers between two looks: early deaths in a row, and when pods last came or went."""

from __future__ import annotations

from collections.abc import Sequence

from chatoperator.model import Failures, Observed, PodKind, PodView, RegistryView

LIVED_S = 5.0
"""A ready pod that lived longer than this did not die young. Containers take longer to start than processes: more on
Kubernetes."""


class History:
    """`look` is given every observation, in order."""

    def __init__(self, lived_s: float = LIVED_S) -> None:
        self._lived_s = lived_s
        self.failures: dict[tuple[PodKind, str], Failures] = {}
        self.disturbed_at: float | None = None
        self.shed_at: float | None = None
        self._before: dict[str, PodView] | None = None
        self._registry_answers: bool | None = None
        self._registry_since: float | None = None

    def look(self, pods: Sequence[PodView], registry: RegistryView | None, now: float) -> Observed:
        """What is seen now, with what is remembered of the time before."""
        self.note(pods, now)
        answers = registry is not None
        if answers is not self._registry_answers:
            # What answers at the first look may have answered all the time: nobody is owed any patience.
            first = self._registry_answers is None
            self._registry_since = None if answers and first else now
            self._registry_answers = answers
        return Observed(
            pods=tuple(pods),
            registry=registry,
            registry_since=self._registry_since,
            failures=self.failures,
            disturbed_at=self.disturbed_at,
            shed_at=self.shed_at,
        )

    def note(self, pods: Sequence[PodView], now: float) -> None:
        known = self._before
        self._before = {pod.name: pod for pod in pods}
        for pod in pods:
            before = known.get(pod.name) if known is not None else None
            if not pod.alive and (before is None or before.alive) and not pod.stopping:
                self._died(pod, now)
            if pod.alive and not self._is_young(pod, now):
                self._lives(pod)
            # Who is there at the first look may have joined long ago.
            if pod.alive and pod.ever_ready and known is not None and not (before and before.ever_ready):
                self._joined(pod, pods, now)
        vanished = [pod for name, pod in (known or {}).items() if name not in self._before]
        if any(pod.kind is PodKind.CHAT and pod.alive and not pod.stopping for pod in vanished):
            self.disturbed_at = now  # by no fault of their own

    def _died(self, pod: PodView, now: float) -> None:
        key = (pod.kind, pod.revision)
        count = self.failures.get(key, Failures(0, now)).count + 1 if self._is_young(pod, now) else 0
        self.failures[key] = Failures(count, now)
        if pod.kind is PodKind.CHAT:
            self.disturbed_at = now

    def _lives(self, pod: PodView) -> None:
        """If it was started after the last early death, these were no row."""
        failed = self.failures.get((pod.kind, pod.revision))
        if failed is not None and pod.started_at > failed.last_at:
            del self.failures[pod.kind, pod.revision]

    def _is_young(self, pod: PodView, now: float) -> bool:
        return not pod.ever_ready or now - pod.started_at <= self._lived_s

    def _joined(self, pod: PodView, pods: Sequence[PodView], now: float) -> None:
        busy = any(other.name != pod.name and other.ready and other.connections for other in pods)
        if pod.kind is PodKind.CHAT and busy:
            self.disturbed_at = now
