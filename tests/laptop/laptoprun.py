"""A real cluster: `chatctl up` as a person runs it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import queue
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatoperator.control import Request, ask
from chatoperator.datadir import DataDir

READY_TIMEOUT_S = 40.0
CHATCTL = Path(sys.executable).with_name("chatctl")
CONTROL_SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
SPEC = """\
apiVersion: chatcluster.dev/v1alpha1
kind: ChatCluster
metadata:
  name: test
spec:
  chatPods:
    replicas: {replicas}
  drain:
    deadlineSeconds: 3
  presence:
    heartbeatSeconds: {heartbeat}
"""


def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """What the condition gave when it was true. Fails when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.02)
    return value


def processes_of(data: Path) -> list[int]:
    """Every living process that carries the mark of this data directory."""
    mark = f"CHATCLUSTER_DATA={data}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


class Up:
    """One run of `chatctl up` on a data directory."""

    def __init__(self, data: Path, file: Path, *options: str) -> None:
        self.data, self.file = data, file
        self._lines: queue.Queue[str] = queue.Queue()
        command = [sys.executable, "-m", "chatclient.cli.main", "up", str(file), "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def ready(self) -> dict[str, Any]:
        line = self._lines.get(timeout=READY_TIMEOUT_S)
        status: dict[str, Any] = json.loads(line)
        assert status["event"] == "ready"
        return status

    def ask(self, **request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.data / "control.sock"))
            control.sendall(json.dumps(request).encode() + b"\n")
            with control.makefile() as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
                return answer

    def pods(self, kind: str = "chat", phase: str | None = None) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = self.ask(do="status")["pods"]
        return [pod for pod in pods if pod["kind"] == kind and phase in (None, pod["phase"])]

    def settled(self, replicas: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """The chat pods, once there are so many and all is as it should be."""

        def as_wanted() -> list[dict[str, Any]] | None:
            status = self.ask(do="status")
            chat = [pod for pod in status["pods"] if pod["kind"] == "chat"]
            return chat if status["phase"] == "Running" and len(chat) == replicas else None

        pods: list[dict[str, Any]] = until(as_wanted, timeout_s, f"{replicas} settled pods")
        return pods

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 15.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def output(self) -> str:
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return "".join(lines)


# The shell leads the session, and the terminal that it opens first becomes the session's.
SHELL = 'exec <>"$0" >&0 2>&0; {trap}; "$@"; true'
LIKE_MAKE = "trap : HUP"  # waits for its child after a SIGHUP, and does not pass it on
LIKE_NOHUP = "trap '' HUP"


class Window:
    """A terminal that `chatctl up` runs in, under a shell."""

    def __init__(self, data: Path, file: Path, trap: str) -> None:
        self.data = data
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._shown = b""
        command = [sys.executable, "-m", "chatclient.cli.main", "up", str(file), "--data", str(data)]
        self.shell = subprocess.Popen(
            ["sh", "-c", SHELL.format(trap=trap), os.ttyname(slave), *command, "--port", "0"],
            start_new_session=True,
        )
        self.is_open = True
        self._slave = slave

    def read_until(self, pattern: bytes) -> re.Match[bytes]:
        """Reads on until that is shown, colours and the like apart. Fails when it is not in time."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not (match := re.search(pattern, CONTROL_SEQUENCE.sub(b"", self._shown))):
            readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"not shown: {pattern!r}, but {self._shown!r}"
            self._shown += os.read(self._master, 4096)
        self._shown = b""
        return match

    def press_ctrl_s(self) -> None:
        """What is written from now on waits."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            os.close(self._slave)
            os.close(self._master)

    def status(self) -> dict[str, Any]:
        return asyncio.run(ask(DataDir(self.data).control_socket(), Request(do="status")))


def post(url: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer
