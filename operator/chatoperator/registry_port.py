"""The registry in Redis as the operator sees it: never waits long, remembers since when it sees a run."""

from __future__ import annotations

import asyncio

from chatkernel.registry import PodEntry, Policy, Registry
from chatoperator.model import EntryView, RegistryView

LOOK_TIMEOUT_S = 0.5
AWAY_PAUSE_S = 1.0
"""After a look that failed the next is not before this, so that a dead Redis does not slow the loop."""


class RedisRegistry:
    """Implements RegistryPort."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: dict[tuple[str, str], float] = {}
        self._away_until = 0.0
        self.entries: dict[str, PodEntry] = {}
        """Those with a lease that goes on, by name, as of the last look."""

    async def observe(self, now: float) -> RegistryView:
        """Raises ChatError(REDIS_UNAVAILABLE) or TimeoutError."""
        if now < self._away_until:
            raise TimeoutError
        self._away_until = now + AWAY_PAUSE_S
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            snapshot = await self._registry.snapshot()
            # What stands in Redis, not what the snapshot remembers: after a loss it has to be written again.
            policy = await self._registry.policy()
        self._away_until = 0.0
        self.entries = {entry.name: entry for entry in snapshot.entries}
        found = [
            *((entry.name, entry.incarnation, True) for entry in snapshot.entries),
            *((entry.name, entry.incarnation, False) for entry in snapshot.expired),
            # A living pod writes over what stands there under its name; other names are nobody's.
            *((name, "", False) for name in snapshot.unread),
        ]
        self._seen = {run: self._seen.get(run, now) for run in ((name, own) for name, own, _ in found)}
        return RegistryView(
            tuple(EntryView(name, own, live, self._seen[name, own]) for name, own, live in found),
            policy.serving_revision,
            frozenset(policy.excluded),
        )

    async def remove(self, pod: str, incarnation: str, *, for_good: bool = False) -> None:
        await self._registry.remove(pod, incarnation, for_good=for_good)

    async def set_policy(self, serving_revision: str, excluded: frozenset[str]) -> None:
        await self._registry.set_policy(Policy(serving_revision, sorted(excluded)))
