"""Nobody who does not read what a cluster writes can stop it: not with Ctrl-S, not with a pipe that is full."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from laptoprun import LIKE_MAKE, READY_TIMEOUT_S, SPEC, Window, processes_of, until

from chatoperator.control import Request, ask
from chatoperator.datadir import DataDir, UpError


def test_a_stopped_terminal_stops_nothing_but_what_it_shows(open_window: Callable[[str], Window]) -> None:
    window = open_window(LIKE_MAKE)
    window.read_until(b"is ready at")
    window.press_ctrl_s()
    (victim,) = [pod["name"] for pod in window.status()["pods"] if pod["kind"] == "chat"]
    assert asyncio.run(ask(DataDir(window.data).control_socket(), Request("kill", pod=victim)))["ok"]

    def is_replaced() -> bool:
        pods = {pod["name"]: pod["phase"] for pod in window.status()["pods"] if pod["kind"] == "chat"}
        return victim not in pods and list(pods.values()) == ["ready"]

    until(is_replaced, what="the killed pod is replaced")
    running = DataDir(window.data).running()
    assert running is not None
    os.kill(running.pid, signal.SIGTERM)
    window.shell.wait(8)
    assert processes_of(window.data) == []


def test_a_pipe_that_is_full_from_the_start_stops_nothing(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "cluster.yaml"
    file.write_text(SPEC.format(replicas=1, heartbeat=10))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    command = [
        sys.executable,
        "-m",
        "chatclient.cli.main",
        "up",
        str(file),
        "--data",
        str(data),
        "--port",
        "0",
    ]
    up = subprocess.Popen(command, stdout=writer, start_new_session=True)

    def is_running() -> bool:
        try:
            status = asyncio.run(ask(DataDir(data).control_socket(), Request("status"), 2.0))
        except UpError:
            return False
        return status["phase"] == "Running"

    try:
        until(is_running, READY_TIMEOUT_S)
        up.send_signal(signal.SIGTERM)
        assert up.wait(8) == 0
        assert processes_of(data) == []
    finally:
        up.kill()
        up.wait()
        os.close(writer)
        os.close(reader)
