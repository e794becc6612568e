"""A cluster on servers of its own, a drill on it that breaks these, and a witness of what else was promised.

The drill is `chatctl drill --fault exec:...`, the cluster `chatctl up`: two processes as people run them. The servers
are children of this process, so the fault's program only passes `strike` and `heal` on to it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.chatctl import Chatctl

from drills.fault_calls import CALL, answering, drilled, told
from drills.witness import Witness

HEARTBEAT_S = 10.0
"""Of a cluster by default."""
MARGIN_S = 2.0
"""For looking, and for a machine that does other things, too."""
ACK_WITHIN_S = 2.0
"""While what was broken is not needed for it."""
LOAD = ("--users", "60", "--channels", "20", "--rate", "60", "--duration", "10")

Pods = list[dict[str, Any]]
"""Rows of the cluster's status."""


@dataclass(slots=True)
class Fault:
    """What is done to a server. `strike` gets the pods, and tells which of them it cut off from the server and may be
    heard of as degraded; `hold_s` is how long it lasts."""

    options: tuple[str, ...]
    """For `chatctl up`."""
    strike: Callable[[Pods], Awaitable[Pods]]
    heal: Callable[[], Awaitable[None]]
    hold_s: float
    ready: Callable[[], Awaitable[None]] | None = None
    """Done once, when the cluster is there."""


@dataclass(slots=True)
class Outcome:
    """Of one drill. `problems` is empty when all promises were kept."""

    name: str
    report: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a person: each fault, and what was wrong."""
        lines = [told(record) for record in self.report.get("fault_log", [])]
        return [*lines, *(f"  {problem}" for problem in self.problems)]


async def run_drill(name: str, fault: Fault, times: int) -> Outcome:
    """The whole of it. Raises AssertionError when the cluster does not start."""
    with tempfile.TemporaryDirectory(prefix="drill-") as place:
        chatctl = Chatctl(Path(place) / "data")
        async with _cluster(chatctl, fault.options), Witness.of(chatctl) as witness:
            if fault.ready is not None:
                await fault.ready()
            async with _bridge(Path(place) / "rig.sock", fault, witness):
                report, said = await _drill(chatctl, name, fault, times, Path(place) / "rig.sock")
            problems = _judge(report) if report else [f"the drill failed: {said}"]
            if len(report.get("fault_log", [])) != times:
                problems.append(f"the fault was done {len(report.get('fault_log', []))} times")
            problems += await witness.final()
    return Outcome(name, report, problems)


def _judge(report: dict[str, Any]) -> list[str]:
    problems = [*report["broken"], *report["unjudged"], *(report["details"] if report["broken"] else [])]
    for record in report["fault_log"]:
        if record["lost_connections"]:
            problems.append(f"{record['lost_connections']} connections were lost")
        if record["slowest_ack_s"] is None or record["slowest_ack_s"] > ACK_WITHIN_S:
            problems.append(f"an ack took {record['slowest_ack_s']} s")
        if record["level_after_s"] is None or record["level_after_s"] > HEARTBEAT_S + MARGIN_S:
            problems.append(f"all were level only {record['level_after_s']} s after it")
    return problems


@asynccontextmanager
async def _cluster(chatctl: Chatctl, options: tuple[str, ...]) -> AsyncIterator[None]:
    up = chatctl.up(*options)
    await asyncio.to_thread(up.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(up.__exit__, None, None, None)


@asynccontextmanager
async def _bridge(path: Path, fault: Fault, witness: Witness) -> AsyncIterator[None]:
    async def do(_name: str, what: str) -> None:
        await (
            witness.seen_enough()
        )  # while it holds; before it strikes, of how it got well after the one before
        if what == "strike":
            await witness.begin(await fault.strike(await witness.pods()))
        else:
            await fault.heal()
            witness.end()

    async with answering(path, do):
        yield


async def _drill(
    chatctl: Chatctl, name: str, fault: Fault, times: int, socket: Path
) -> tuple[dict[str, Any], str]:
    words = ["--times", str(times), "--hold", f"{fault.hold_s:g}", "--fault", f"exec:{name}={CALL}", "--json"]
    return await drilled(chatctl.command("drill", *LOAD, *words), chatctl.environ, socket)
