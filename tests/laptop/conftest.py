"""Clusters that tests start, and that are gone afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laptoprun import SPEC, Up, processes_of


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts clusters on `tmp_path/data`; whatever happens, nothing of them is left."""
    started: list[Up] = []
    data = tmp_path / "data"

    def begin(replicas: int = 2, heartbeat: float = 10) -> Up:
        file = tmp_path / "cluster.yaml"
        file.write_text(SPEC.format(replicas=replicas, heartbeat=heartbeat))
        started.append(Up(data, file))
        return started[-1]

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
    for pid in processes_of(data):
        os.kill(pid, signal.SIGKILL)
