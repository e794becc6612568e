"""`chatctl` as a person runs it: a process, its output, and the terminal it is on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typer.testing import CliRunner

from chatclient.cli.main import make_app
from chatclient.control import ClusterStatus, Control
from chatclient.errors import Unreachable

PASSWORD = "correct horse battery"
START_S = 60


class Chatctl:
    """With a data directory and everybody's password."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environ = {**os.environ, "CHATCTL_DATA": str(data), "CHATCTL_PASSWORD": PASSWORD}

    def start(self, *words: str, on: int | None = None) -> subprocess.Popen[str]:
        """`on`: the terminal of a person at a keyboard."""
        return subprocess.Popen(
            [sys.executable, "-m", "chatclient.cli.main", *words],
            env=self.environ,
            stdin=subprocess.DEVNULL if on is None else on,
            stdout=subprocess.PIPE if on is None else on,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def here(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same in this process, which is quicker: for commands that start nothing and listen to no signals."""
        done = CliRunner().invoke(make_app(words[0]), list(words), env=self.environ)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    def json(self, *words: str) -> list[dict[str, object]]:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def status(self) -> ClusterStatus:
        """Of the cluster that runs on the data directory. Raises Unreachable."""
        return asyncio.run(Control(self.data).status())

    @contextmanager
    def up(self, *options: str) -> Iterator[None]:
        """A cluster on this data directory, on a free port."""
        cluster = self.start("up", "--port", "0", *options)
        try:
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and cluster.poll() is None:
                with suppress(Unreachable):
                    if self.status().phase == "Running":
                        break
                time.sleep(0.05)
            else:
                raise AssertionError("the cluster did not start")
            yield
        finally:
            cluster.send_signal(signal.SIGTERM)
            cluster.communicate(timeout=30)
