"""Which chat pod a new connection goes to: pure, and called for every seat."""

from __future__ import annotations

from collections.abc import Mapping

from chatkernel.registry import PodEntry, PodState, Snapshot


def rank(snapshot: Snapshot, region: str, recent: Mapping[str, float]) -> list[PodEntry]:
    """The pods that may be given out, best first; empty when none has a free seat.

    `region` is where the client is. `recent` counts, by pod, the seats given out that its `connections`
    cannot show yet: without it a thousand clients at once would all get the pod that was emptiest a second
    ago.
    """
    policy = snapshot.policy
    excluded = set(policy.excluded)
    ranked: list[tuple[bool, float, str, PodEntry]] = []
    for entry in snapshot.entries:
        if entry.state is not PodState.READY or entry.name in excluded:
            continue
        if entry.lease_until <= snapshot.redis_now_ms:
            continue
        if policy.serving_revision and entry.revision != policy.serving_revision:
            continue
        load = entry.connections + recent.get(entry.name, 0.0)
        if load < entry.capacity:
            ranked.append((entry.region != region, load / entry.capacity, entry.name, entry))
    # Names are unique, so entries themselves are never compared.
    ranked.sort()
    return [entry for _, _, _, entry in ranked]
