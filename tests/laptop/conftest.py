"""Clusters that tests start, and that are gone afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laptoprun import SPEC, Up, Window, processes_of

from chatoperator.datadir import DataDir


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


@pytest.fixture
def open_window(tmp_path: Path) -> Iterator[Callable[[str], Window]]:
    windows: list[Window] = []
    data, file = tmp_path / "data", tmp_path / "cluster.yaml"

    def begin(trap: str) -> Window:
        file.write_text(SPEC.format(replicas=1, heartbeat=10))
        windows.append(Window(data, file, trap))
        return windows[-1]

    yield begin
    running = DataDir(data).running() if windows else None
    for window in windows:
        if window.shell.poll() is None:
            if running is not None:
                os.kill(running.pid, signal.SIGKILL)
            window.shell.kill()
            window.shell.wait()
        window.close()
    for pid in processes_of(data):
        os.kill(pid, signal.SIGKILL)
