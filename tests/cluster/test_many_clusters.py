"""Some more clusters than a person looks after, on fake nodes. 200 of them are `make bench-cluster`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cluster.kit.api import Api
from cluster.kit.chat import operating
from cluster.kit.faults import Faults
from cluster.kit.fleet import Fleet, Seen, nodes_for
from cluster.kit.kubectl import Helm, Kubectl

pytestmark = pytest.mark.alone

CLUSTERS = 20
ROUNDS_S = 12.0
"""Two looks at every cluster, at least."""


async def test_at_rest_only_the_lease_is_written(
    api: Api, helm: Helm, kubectl: Kubectl, faults: Faults, fake_nodes: Callable[[int], list[str]]
) -> None:
    fake_nodes(nodes_for(CLUSTERS))
    with operating(helm, kubectl) as operator:
        async with Fleet(api, kubectl, CLUSTERS).running():
            before = Seen(operator, faults)
            for _ in range(5):  # until what the start has left is done
                await asyncio.sleep(ROUNDS_S)
                after = Seen(operator, faults)
                asked = {kind for (verb, kind) in after.since(before) if verb not in ("get", "list", "watch")}
                if asked <= {"leases"}:
                    break
                before = after
    assert asked == {"leases"}
    assert after.rounds - before.rounds >= CLUSTERS, "it has looked at none of them"
