"""A cluster of its own on a store, one drill on it that breaks the store in every way, and a witness beside it.

The drill is `chatctl drill --fault exec:...`, a process as people run it. The store is this process's child, so the
fault's program only passes `strike` and `heal` on to it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.cluster import Cluster, default_spec

from drills.fault_calls import CALL, answering, drilled, told
from drills.store_fault import StoreFault, StoreUnderTest
from drills.store_witness import MARGIN_S, StoreWitness

HEARTBEAT_S = 5.0
LOAD = ("--users", "40", "--channels", "16", "--rate", "25", "--duration", "5")
SENT_AGAIN_S = 30.0
"""What waited for a minute is sent after it, one message of a channel after the other."""
LEVEL_WITHIN_S = SENT_AGAIN_S + HEARTBEAT_S + MARGIN_S
"""From the end of a fault; what was missed of what was sent last is found with the next heartbeat."""


@dataclass(slots=True)
class Outcome:
    """Of one drill. `problems` is empty when all promises were kept."""

    store: StoreUnderTest
    report: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a person: each fault, and what was wrong."""
        faults = [told(record) for record in self.report.get("fault_log", [])]
        counts = " ".join(
            f"{name} {self.report.get(name)}" for name in ("sent", "acked", "lost", "duplicated")
        )
        lines = [f"{self.store.name}: {line}" for line in (*faults, counts)]
        return [*lines, *(f"  PROBLEM {problem}" for problem in self.problems)]


async def run_drill(store: StoreUnderTest, place: Path, *others: str, times: int) -> Outcome:
    """`place`: where the cluster's data go. `others`: faults of `chatctl drill` besides the store's; a witness, who
    stays on one pod, cannot live through those."""
    spec = default_spec(presence={"heartbeatSeconds": HEARTBEAT_S})
    cluster = Cluster(place / "data", spec, {})
    cluster.store_url = store.url
    await asyncio.to_thread(cluster.start)
    try:
        async with AsyncExitStack() as stack:
            witness = None if others else await stack.enter_async_context(StoreWitness.of(cluster))
            await stack.enter_async_context(_bridge(place / "rig.sock", store, witness))
            report, said = await _drill(cluster, store, others, times, place / "rig.sock")
            problems = [] if witness is None else await witness.final()
    finally:
        await asyncio.to_thread(cluster.stop)
    problems += _judge(report, store, times, bool(others)) if report else [f"the drill failed: {said}"]
    return Outcome(store, report, problems)


def _judge(report: dict[str, Any], store: StoreUnderTest, times: int, moved: bool) -> list[str]:
    """`moved`: clients were, after the death of a pod; who cannot come in elsewhere while the store is away loses its
    connection at the move's deadline."""
    problems = [*report["broken"], *report["unjudged"], *(report["details"] if report["broken"] else [])]
    for fault in store.faults:
        records = [record for record in report["fault_log"] if record["name"] == f"exec:{fault.name}"]
        if len(records) != times:
            problems.append(f"{fault.name} was done {len(records)} times")
        for record in records:
            if record["lost_connections"] and not moved:
                problems.append(f"{fault.name}: {record['lost_connections']} connections were lost")
            if (record["slowest_ack_s"] or 0.0) > fault.hold_s + SENT_AGAIN_S:
                problems.append(f"{fault.name}: an ack took {record['slowest_ack_s']} s")
            if record["level_after_s"] is None or record["level_after_s"] > LEVEL_WITHIN_S:
                problems.append(f"{fault.name}: all were level only {record['level_after_s']} s after it")
    return problems


@asynccontextmanager
async def _bridge(path: Path, store: StoreUnderTest, witness: StoreWitness | None) -> AsyncIterator[None]:
    faults = {fault.name: fault for fault in store.faults}
    stack = AsyncExitStack()

    async def strike(fault: StoreFault) -> None:
        """Until it has held for long enough: how long that is differs, and the drill holds all for as long."""
        if witness is not None:
            await witness.before()
        await stack.enter_async_context(fault.broken())
        looks = [] if witness is None else [witness.during(fault)]
        await asyncio.gather(asyncio.sleep(fault.hold_s), *looks)

    async def do(name: str, what: str) -> None:
        if what == "strike":
            await strike(faults[name])
            return
        await stack.aclose()
        if witness is not None:
            await witness.after()

    try:
        async with answering(path, do):
            yield
    finally:
        await stack.aclose()


async def _drill(
    cluster: Cluster, store: StoreUnderTest, others: tuple[str, ...], times: int, socket: Path
) -> tuple[dict[str, Any], str]:
    words = ["--data", str(cluster.data), "--times", str(times), "--hold", "0", "--json"]
    for name in (*(f"exec:{fault.name}={CALL}" for fault in store.faults), *others):
        words += ["--fault", name]
    command = [sys.executable, "-m", "chatclient.cli.main", "drill", *LOAD, *words]
    return await drilled(command, os.environ, socket)
