"""Each fault of a Redis, three times under the drill: the promises hold, connections stay, sends are acked, delivery
catches up within a heartbeat, seats come from the last look, presence is unknown and not wrong, health is told."""

from __future__ import annotations

import pytest

from drills.redis_faults import FAULTS
from drills.rig import run_drill

TIMES = 3

pytestmark = pytest.mark.stores


@pytest.mark.parametrize("name", FAULTS)
async def test_promises_hold(name: str) -> None:
    async with FAULTS[name]() as fault:
        outcome = await run_drill(name, fault, TIMES)
    assert not outcome.problems, "\n".join(outcome.lines())
