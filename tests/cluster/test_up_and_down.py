"""`make cluster-up` and `make cluster-down`, each twice: the second time changes nothing, and in the end nothing is
left of a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from cluster.machine.layout import Layout
from cluster.machine.machine import Machine
from cluster.machine.shell import run

pytestmark = [pytest.mark.alone, pytest.mark.slow]

NAME = "twice"
OUTSIDE = ["nsenter", f"--net=/proc/{os.getppid()}/ns/net"]
"""These tests are in the network of a cluster, and who started them is not; the other one is to be beside it."""
WITHIN_S = 120.0


def cluster(*words: str) -> str:
    """What it says. Raises MachineError."""
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"} | {"CLUSTER": NAME}
    return run(*OUTSIDE, sys.executable, "-m", "cluster", *words, env=environment, timeout_s=WITHIN_S)


def servers() -> dict[str, int | None]:
    known = Machine(Layout(NAME)).processes
    return {name: known.pid(name) for name in known.names()}


def processes() -> set[int]:
    """All that it has started, by the folder that is on their command lines."""
    folders = tuple(str(folder) for folder in (Layout(NAME).state, Layout(NAME).run))
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or [] for folder in folders):
            found.add(process.pid)
    return found


def left() -> list[str]:
    """Folders, network namespaces, mounts, cgroups and interfaces that have its name."""
    layout = Layout(NAME)
    folders = [folder for folder in (layout.state, layout.run) if folder.exists()]
    namespaces = Path("/run/netns").glob(f"{NAME}*")
    cgroups = [path for path in Path("/sys/fs/cgroup").glob(f"**/{NAME}-*") if path.is_dir()]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{NAME}/" in line]
    links = run(*OUTSIDE, "ip", "-o", "link")
    return [
        *map(str, (*folders, *namespaces, *cgroups)),
        *mounts,
        *(line for line in links.splitlines() if NAME in line),
    ]


def test_a_second_time_changes_nothing_and_in_the_end_nothing_is_left(machine: Machine) -> None:
    assert not left() and not processes()
    try:
        cluster("up", "--nodes", "1")
        running = servers()
        assert all(running.values()) and processes() and left()
        cluster("up", "--nodes", "1")
        assert servers() == running
        assert "Ready" in cluster("run", "kubectl", "get", "nodes", "--no-headers")
    finally:
        cluster("down")
    assert not left() and not processes()
    cluster("down")
    assert not left()
    assert machine.kubectl("get", "nodes", "--no-headers").count(" Ready ")  # the one beside it
