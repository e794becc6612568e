"""A cluster ends with its terminal, whoever leads the terminal's session, unless it was started to outlive it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from laptoprun import LIKE_MAKE, LIKE_NOHUP, SPEC, Window, processes_of, until

from chatoperator.datadir import DataDir


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
