"""`python -m drills.stores NAME...` (in `tests/`): every fault of these stores, in one drill for each of them."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
import sys
import tempfile
import time
from pathlib import Path

from drills.mongo_scripted import scripted_mongo
from drills.mongo_store import mongo
from drills.postgres_store import postgres, replicated_postgres
from drills.sqlite_store import sqlite
from drills.store_fault import StoreUnderTest
from drills.store_rig import run_drill

STORES = {
    "sqlite": sqlite,
    "postgres": postgres,
    "postgres-replicated": replicated_postgres,
    "mongo": mongo,
    "mongo-scripted": scripted_mongo,
}
TIMES = 3
SHORT = {
    "sqlite": ("locked", 4.0),
    "postgres": ("kill", 3.0),
    "postgres-replicated": ("standby-promoted", 3.0),
    "mongo": ("freeze", 6.0),
    "mongo-scripted": ("step-down", 4.0),
}
"""For a quick look: one fault of each, for so many seconds, and a pod is killed."""


def _short(store: StoreUnderTest) -> StoreUnderTest:
    name, hold_s = SHORT[store.name]
    chosen_ones = [fault for fault in store.faults if fault.name == name]
    faults = [dataclasses.replace(fault, hold_s=hold_s, stops=False) for fault in chosen_ones]
    return dataclasses.replace(store, faults=faults)


def _only(store: StoreUnderTest, names: list[str]) -> StoreUnderTest:
    return dataclasses.replace(store, faults=[fault for fault in store.faults if fault.name in names])


async def _run(names: list[str], faults: list[str], times: int, short: bool) -> bool:
    kept = True
    for name in names:
        began, place = time.monotonic(), Path(tempfile.mkdtemp(prefix="drill-"))
        async with STORES[name]() as store:
            store = _short(store) if short else _only(store, faults) if faults else store
            # There is always something that breaks.
            others = ["kill-pod"] if short or not store.faults else []
            broken = ", ".join([fault.name for fault in store.faults] + others)
            print(f"{name}: {store.words}; faults: {broken}", flush=True)
            outcome = await run_drill(store, place, *others, times=1 if short else times)
        print("\n".join(outcome.lines()), flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if outcome.problems:
            kept = False
            print(f"  its logs are in {place}", flush=True)
        else:
            shutil.rmtree(place)
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m drills.stores", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(STORES)}; all without one")
    parser.add_argument(
        "--fault", action="append", default=[], help="this one only; may be given several times"
    )
    parser.add_argument("--times", type=int, default=TIMES, help=f"how often each fault (default {TIMES})")
    parser.add_argument(
        "--short", action="store_true", help="one short fault of each, and the death of a pod"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - STORES.keys():
        parser.error(f"no store is called {', '.join(sorted(unknown))}; there are: {', '.join(STORES)}")
    kept = asyncio.run(_run(asked.names or list(STORES), asked.fault, asked.times, asked.short))
    sys.exit(0 if kept else 1)
