"""A mongo-java-server for tests: a process of its own, in memory, killed and frozen on purpose."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.mongo.java_build import built_jar

START_WITHIN_S = 30.0
STOP_WITHIN_S = 5.0

OPTIONS = [
    # Starts in half the time and in little memory; tests do not run long enough for the second compiler.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx512m",
    # Every refused insert would be a line.
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
]


class JavaMongo:
    """One server. It keeps nothing: after `kill` and `start` it is empty, on the same port."""

    def __init__(self, jar: Path, options: Sequence[str] = OPTIONS) -> None:
        self.port = 0
        self._options = options
        self._jar = jar
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it, empty. It ends when we do, however we end: its standard input is a pipe of ours."""
        with tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(
                ["java", *self._options, "-jar", str(self._jar), str(self.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            port = self._said()
            if not port:
                self.kill()
                errors.seek(0)
                raise RuntimeError(f"mongo-java-server did not start: {errors.read()}")
        self.port = int(port)

    def kill(self) -> None:
        """SIGKILL: nothing is kept."""
        process = self._running()
        process.kill()
        self._end(process)

    def freeze(self) -> None:
        """All of its threads stand still when this returns: the signal alone takes a moment to reach them."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Let it end, also when a test has left it frozen or dead."""
        process = self._process
        if process is None:
            return
        self.thaw()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
        self._end(process)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("mongo-java-server is not running")
        return self._process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def _said(self) -> str:
        """Its first line: the port; nothing if it ended or is too slow."""
        output = self._running().stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], START_WITHIN_S)
        return output.readline().strip() if ready else ""


@contextmanager
def java_server() -> Iterator[JavaMongo]:
    """A server of the test's own. Raises `NoJava` where there can be none."""
    server = JavaMongo(built_jar())
    server.start()
    try:
        yield server
    finally:
        server.stop()
