"""A cluster ends with its terminal, whoever leads the terminal's session, unless it was started to outlive it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from laptoprun import READY_TIMEOUT_S, SPEC, processes_of, until

from chatoperator.control import Request, ask
from chatoperator.datadir import DataDir

# The shell leads the session, and the terminal that it opens first becomes the session's.
SHELL = 'exec <>"$0" >&0 2>&0; {trap}; "$@"; true'
LIKE_MAKE = "trap : HUP"  # waits for its child after a SIGHUP, and does not pass it on
LIKE_NOHUP = "trap '' HUP"


class Window:
    """A terminal that `chatctl up` runs in, under a shell."""

    def __init__(self, data: Path, file: Path, trap: str) -> None:
        self.data = data
        self._master, slave = os.openpty()
        command = [sys.executable, "-m", "chatclient.cli.main", "up", str(file), "--data", str(data)]
        self.shell = subprocess.Popen(
            ["sh", "-c", SHELL.format(trap=trap), os.ttyname(slave), *command, "--port", "0"],
            start_new_session=True,
        )
        self.is_open = True
        self._slave = slave

    def read_until(self, text: bytes) -> None:
        """Fails when it is not shown in time."""
        shown, deadline = b"", time.monotonic() + READY_TIMEOUT_S
        while text not in shown:
            readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"not shown: {text!r}, but {shown!r}"
            shown += os.read(self._master, 4096)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            os.close(self._slave)
            os.close(self._master)

    def status(self) -> dict[str, Any]:
        return asyncio.run(ask(DataDir(self.data).control_socket(), Request(do="status")))


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


def test_a_cluster_ends_with_its_terminal_though_no_signal_reaches_it(
    open_window: Callable[[str], Window],
) -> None:
    window = open_window(LIKE_MAKE)
    window.read_until(b"is ready at")
    assert len(processes_of(window.data)) >= 4
    window.close()
    window.shell.wait(8)
    assert processes_of(window.data) == []
    assert not (window.data / "control.sock").exists()


def test_a_cluster_that_was_started_to_outlive_its_terminal_goes_on(
    open_window: Callable[[str], Window], tmp_path: Path
) -> None:
    window = open_window(LIKE_NOHUP)
    window.read_until(b"is ready at")
    running = DataDir(window.data).running()
    assert running is not None
    window.close()
    os.kill(running.pid, signal.SIGHUP)
    # An edit is seen in the tick that would also see the terminal's end: two edits, two ticks.
    file = tmp_path / "cluster.yaml"
    file.write_text("spec: nonsense\n")
    until(lambda: window.status()["problem"], what="the bad edit is told")
    file.write_text(SPEC.format(replicas=1, heartbeat=10))
    until(lambda: not window.status()["problem"], what="the good edit is told")
    os.kill(running.pid, signal.SIGTERM)
    window.shell.wait(8)
    assert processes_of(window.data) == []
