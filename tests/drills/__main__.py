"""`python -m drills NAME...` (in `tests/`): faults of servers under a drill, each on a cluster of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys

from drills.redis_faults import FAULTS
from drills.rig import run_drill

TIMES = 3


async def _run(names: list[str], times: int) -> bool:
    kept = True
    for name in names:
        async with FAULTS[name]() as fault:
            outcome = await run_drill(name, fault, times)
        print("\n".join(outcome.lines()), flush=True)
        kept &= not outcome.problems
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)}; all without one")
    parser.add_argument("--times", type=int, default=TIMES, help=f"how often each (default {TIMES})")
    asked = parser.parse_args()
    if unknown := set(asked.names) - FAULTS.keys():
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}")
    sys.exit(0 if asyncio.run(_run(asked.names or list(FAULTS), asked.times)) else 1)
