"""`make bench-cluster`: 200 ChatClusters of 5 pods under one operator, on nodes that only pretend.

How long until all are Running, and what the operator costs when nothing happens: requests to the API server, CPU,
memory. Needs `make cluster-up`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster.kit.api import connected
from cluster.kit.chat import operating
from cluster.kit.fakenodes import faking
from cluster.kit.faults import Faults
from cluster.kit.fleet import PODS_EACH, Fleet, Seen, nodes_for
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.machine.layout import Layout
from cluster.machine.machine import Machine
from rich.console import Console

from bench import machine as host
from bench.report import Target, at_most, short_of, table, write

RESULTS = Path(__file__).parent / "results" / "fleet.json"
CLUSTERS = 200
SETTLE_S = 30.0
WINDOW_S = 60.0

TARGETS: dict[str, Target] = {
    "operator_requests_per_min_at_rest": at_most(100),
    "operator_writes_per_min_at_rest": at_most(0),
    "operator_rss_mib": at_most(300),
    "operator_cpu_share_at_rest": at_most(0.5),
}
"""The Lease is renewed 30 times a minute; a watch ends after some minutes and is begun anew."""

READS = {"get", "list", "watch"}


async def at_rest(seen: Callable[[], Seen]) -> dict[str, object]:
    """All of it per minute, but memory."""
    await asyncio.sleep(SETTLE_S)
    before, began_s = seen(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    after, took_s = seen(), time.monotonic() - began_s
    grown, per_min = after.since(before), 60.0 / took_s
    lease = sum(count for (_, kind), count in grown.items() if kind == "leases")
    writes = sum(count for (verb, kind), count in grown.items() if verb not in READS and kind != "leases")
    return {
        "operator_requests_per_min_at_rest": sum(grown.values()) * per_min,
        "operator_lease_requests_per_min": lease * per_min,
        "operator_writes_per_min_at_rest": writes * per_min,
        "operator_rounds_per_min_at_rest": (after.rounds - before.rounds) * per_min,
        "operator_cpu_share_at_rest": (after.cpu_s - before.cpu_s) / took_s,
        "operator_rss_mib": after.rss_bytes / 2**20,
        **{f"{verb}_{kind}_per_min": count * per_min for (verb, kind), count in sorted(grown.items())},
    }


async def run(clusters: int) -> dict[str, object]:
    machine, namespaces = Machine(Layout.of(os.environ)), Namespaces()
    namespace = namespaces.make()
    kubectl, faults = Kubectl(namespace), Faults(machine)
    try:
        with faking(machine) as fake_nodes, operating(Helm(namespace), kubectl) as operator:
            fake_nodes(nodes_for(clusters))
            async with connected() as api:
                fleet, started_s = Fleet(api, kubectl, clusters), time.monotonic()
                async with fleet.running():
                    found: dict[str, object] = {
                        "clusters": clusters,
                        "pods": clusters * PODS_EACH,
                        "all_running_s": time.monotonic() - started_s,
                    }
                    return found | await at_rest(lambda: Seen(operator, faults))
    finally:
        namespaces.leave(namespace)
        namespaces.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--clusters", type=int, default=CLUSTERS)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results are written")
    options = parser.parse_args()
    described = host.describe()
    results = asyncio.run(run(options.clusters))
    write(results, "fleet", described, options.output, TARGETS)
    Console(width=110).print(table(results, "fleet", TARGETS))
    sys.exit(1 if short_of(results, TARGETS) else 0)


if __name__ == "__main__":
    main()
