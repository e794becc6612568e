"""Nothing that is done again and again ends a cluster when it fails: it is tried again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laptoprun import Up, processes_of, until
from support.cluster import Cluster, eventually, running_cluster

from chatkernel.redis_client import execute
from chatkernel.registry import Registry
from chatoperator.datadir import DataDir
from chatoperator.logfiles import LOG_MAX_BYTES

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")


@on_linux
@pytest.mark.slow
def test_an_operator_whose_disk_is_full_goes_on_and_heals_when_there_is_space(
    start: Callable[..., Up],
) -> None:
    up = start()
    up.ready()
    victim = up.settled(2)[0]["name"]
    log = up.data / "logs" / f"{victim}.log"
    os.truncate(log, LOG_MAX_BYTES + 1)
    # No file may grow: to this one process it is a disk without a byte left.
    _, hard = resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    assert up.ask(do="kill", pod=victim)["ok"]
    until(lambda: victim not in [pod["name"] for pod in up.pods()])
    until(lambda: log.stat().st_size == 0, 20, "the long log is cut, though it cannot be copied")
    assert len(up.pods()) == 1, "no pod can be started now"
    resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    up.settled(2)
    assert up.stop() == 0
    assert "Traceback" not in up.output()
    told = [
        line for line in (up.data / "logs" / "operator.log").read_text().splitlines() if "not done" in line
    ]
    assert len(told) <= 2, "told once, not at every try"


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "data") as cluster:
        yield cluster


async def test_an_entry_that_nobody_understands_is_told_and_hinders_nobody(own_cluster: Cluster) -> None:
    log = own_cluster.data / "logs" / "operator.log"

    async def is_told() -> bool:
        return "not understood" in log.read_text()

    async with own_cluster.redis() as (redis, keys):
        await execute(redis, [("HSET", keys.registry, "pod:other", b"{not an entry")])
        await eventually(is_told)
        assert (await own_cluster.control.status()).redis.state == "up"
        # The entries of the dead are removed by an operator that can read the others.
        registry, (one, *_) = Registry(redis, keys), await own_cluster.ready()
        await own_cluster.order("kill", pod=one)

        async def is_removed() -> bool:
            snapshot = await registry.snapshot()
            return one not in {entry.name for entry in (*snapshot.entries, *snapshot.expired)}

        await eventually(is_removed)
    assert log.read_text().count("not understood") == 1


@pytest.mark.parametrize("has_been_here", [False, True])
def test_a_full_disk_at_the_start_is_told_in_a_line(tmp_path: Path, has_been_here: bool) -> None:
    data = tmp_path / "data"
    if has_been_here:
        DataDir(data).create()
        DataDir(data).load_secrets()
    command = [sys.executable, "-m", "chatclient.cli.main", "up", "--data", str(data), "--port", "0"]
    run = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 1
    assert run.stderr.startswith("the cluster cannot be started: ")
    assert run.stderr.count("\n") == 1
    assert processes_of(data) == []
