"""A drill that is interrupted mends what it broke, and one does nothing that the cluster cannot take."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chatctl import Chatctl
from support.cluster import Cluster, eventually
from support.valkey import valkey_server

SMALL = ("--users", "6", "--channels", "3", "--rate", "10", "--duration", "1")
MENDED_WITHIN_S = 10


def stopped(pids: list[int]) -> list[int]:
    """Those of the processes that are stopped by a signal."""
    shown = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in shown.stdout.splitlines()]
    return [int(pid) for pid, state in rows if state.startswith("T")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_drill_wakes_the_pod_that_it_froze(
    cluster: Cluster, number: signal.Signals
) -> None:
    await cluster.whole(2)
    pids = [pod["pid"] for pod in (await cluster.pods()).values()]
    drill = Chatctl(cluster.data).start("drill", *SMALL, "--fault", "freeze-pod")

    async def frozen() -> bool:
        assert drill.poll() is None, drill.communicate()
        return bool(stopped(pids))

    try:
        await eventually(frozen, 60)
        drill.send_signal(number)
        _, err = drill.communicate(timeout=MENDED_WITHIN_S)
    finally:
        drill.kill()
    assert drill.returncode == 130, err
    assert "Traceback" not in err
    assert stopped(pids) == []
    await cluster.whole(2)


async def test_an_interrupted_drill_scales_the_cluster_back(cluster: Cluster) -> None:
    await cluster.whole(2)
    drill = Chatctl(cluster.data).start("drill", *SMALL, "--fault", "scale")

    async def wanted() -> int:
        return int((await cluster.control.status()).spec["chatPods"]["replicas"])

    async def scaled() -> bool:
        assert drill.poll() is None, drill.communicate()
        return await wanted() != 2

    try:
        await eventually(scaled, 60)
        drill.send_signal(signal.SIGINT)
        _, err = drill.communicate(timeout=MENDED_WITHIN_S)
    finally:
        drill.kill()
    assert drill.returncode == 130, err
    assert await wanted() == 2
    await cluster.whole(2)


@pytest.fixture
def chatctl(tmp_path: Path) -> Iterator[Chatctl]:
    """Of a cluster on a Redis that is not its own."""
    chatctl = Chatctl(tmp_path / "data")
    with valkey_server() as valkey, chatctl.up("--redis", valkey.url):
        yield chatctl


def test_what_cannot_be_done_is_said_before_anything_is_broken(chatctl: Chatctl) -> None:
    done = chatctl.run("drill", *SMALL, "--fault", "drain", "--fault", "kill-redis")
    assert done.returncode == 2
    assert "kill-redis cannot be done: this cluster does not run its own Redis" in done.stderr
    assert "log in" not in done.stderr, "it was said only after the beginning"


@pytest.mark.slow
def test_what_cannot_be_done_of_all_is_left_out_and_said(chatctl: Chatctl) -> None:
    done = chatctl.run("drill", *SMALL, "--fault", "all", "--json", timeout_s=200)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    left_out = {line.split()[0] for line in report["unjudged"] if "was left out" in line}
    assert left_out == {"flush-redis", "kill-redis", "kill-pod+flush-redis"}
    assert not left_out & report["faults"].keys()
