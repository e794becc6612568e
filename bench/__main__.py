"""`python -m bench [--short] [--only NAMES]`: measure, print the table, write `bench/results/latest.json`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import machine
from bench.cluster import Cluster
from bench.dataset import store
from bench.errors import BenchError
from bench.report import publish
from bench.scenarios import fanout, manypods, onepod
from bench.scenarios.context import FULL, SHORT, Bench, all_rooms, dataset

OTHERS_TOO_MUCH = 0.15
"""Of all cores, beyond which latencies say more of the neighbours than of the pods."""

RESULTS = Path(__file__).parent / "results" / "latest.json"

SCENARIOS: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "hot": ("a hot room, and latency at half of its rate", fanout.hot_room),
    "spread": ("many rooms at once, and the kernel's limit", fanout.spread_rooms),
    "durable": ("durable 1:1 messages, and sync", onepod.durable_and_sync),
    "idle": ("connecting, and memory of idle connections", onepod.idle_connections),
    "seats": ("discovery", manypods.seats),
    "cross": ("latency across pods", manypods.cross_pods),
    "bus": ("bus writes per message", manypods.bus_writes),
    "reconnect": ("coming back after a pod was killed", manypods.reconnects),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="about a minute: fewer connections, one round each"
    )
    parser.add_argument("--only", default="", help=f"of: {', '.join(SCENARIOS)} (comma separated)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results are written")
    return parser.parse_args()


def run(options: argparse.Namespace, console: Console) -> int:
    names = [name for name in options.only.split(",") if name] or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        console.print(f"no such scenario: {', '.join(unknown)} (there are {', '.join(SCENARIOS)})")
        return 2
    sizes = (SHORT if options.short else FULL).within(machine.raise_file_limit())
    described = machine.describe()
    started = time.monotonic()
    failed: list[str] = []
    others = 0.0
    with tempfile.TemporaryDirectory(prefix="chatbench-") as directory, Cluster(Path(directory)) as cluster:
        bench = Bench(cluster, sizes, dataset(sizes))
        cluster.start_redis()
        rooms = all_rooms(bench.data)
        console.print(f"writing {sum(len(room.seats) for room in rooms)} devices in {len(rooms)} channels")
        asyncio.run(store(cluster.store_url, rooms))
        bench.api = cluster.start_api_pod("api")
        cluster.start_worker("worker")
        for name in names:
            title, scenario = SCENARIOS[name]
            begun, neighbours = time.monotonic(), machine.Neighbours()
            try:
                scenario(bench)
            except BenchError as error:
                failed.append(name)
                console.print(f"[red]{name}: {title}: {error}", markup=True, soft_wrap=True)
            else:
                share = neighbours.share()
                others = max(others, share)
                console.print(
                    f"{name}: {title} [dim]({time.monotonic() - begun:.0f} s, others {share:.0%} of the CPU)"
                )
    bench.results["other_cpu_share_max"] = others
    bench.results["bench_s"] = time.monotonic() - started
    publish(bench.results, "short" if options.short else "full", described, options.output, console)
    if others > OTHERS_TOO_MUCH:
        console.print(
            f"[yellow]Other processes used up to {others:.0%} of the CPU: trust no latency of this run."
        )
    return 1 if failed else 0


def main() -> int:
    console = Console()
    try:
        return run(arguments(), console)
    except BenchError as error:
        console.print(f"[red]{error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
