"""The programs of a cluster as processes: started, looked at, ended; and nobody else's process ever touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.machine.layout import MachineError

END_S = 5.0
"""From SIGTERM to SIGKILL."""
POLL_S = 0.05
TAIL_CHARACTERS = 2000


class Processes:
    """By name; what is known of each is a file, so that another run of ours knows it, too."""

    def __init__(self, state: Path) -> None:
        self._pids, self._logs = state / "pid", state / "log"

    def start(
        self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None
    ) -> None:
        """Start it unless it runs. It outlives us, and its output goes to its log."""
        if self.pid(name) is not None:
            return
        for folder in (self._pids, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        words = [str(word) for word in command]
        log = os.open(self.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            pid = os.posix_spawnp(
                words[0],
                words,
                {**os.environ, **(environment or {})},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)
        (self._pids / name).write_text(f"{pid} {_started(pid)}")

    def names(self) -> list[str]:
        """Of all that were started and not ended by us."""
        return sorted(path.name for path in self._pids.glob("*"))

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """None: it does not run. A pid that was given to somebody else since is not ours."""
        try:
            pid, started = (int(word) for word in (self._pids / name).read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if started and _started(pid) == started else None

    def running(self, name: str) -> int:
        """Its pid; raises `MachineError` with the end of its log when it does not run."""
        pid = self.pid(name)
        if pid is None:
            said = (
                self.log(name).read_text(errors="replace")[-TAIL_CHARACTERS:]
                if self.log(name).exists()
                else ""
            )
            raise MachineError(f"{name} does not run: see {self.log(name)}\n{said}")
        return pid

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.running(name), number)

    def stop(self, names: Iterable[str], grace_s: float = END_S) -> None:
        """Ask all to end at once, and end what is left after the grace period. A frozen one is woken."""
        asked = list(names)
        for name in asked:
            self._send(name, signal.SIGTERM)
            self._send(name, signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        for name in asked:
            while self.pid(name) is not None and time.monotonic() < deadline:
                time.sleep(POLL_S)
            self.kill(name)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self._send(name, signal.SIGKILL)
        until(lambda: self.pid(name) is None, END_S, f"the end of {name}")
        (self._pids / name).unlink(missing_ok=True)

    def _send(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def until(condition: Callable[[], bool], within_s: float, what: str, poll_s: float = POLL_S) -> None:
    """Wait for it; raises `MachineError` that names what did not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise MachineError(f"gave up waiting for {what} after {within_s:.0f} s")
        time.sleep(poll_s)


def _started(pid: int) -> int:
    """When it started, in ticks since boot; 0 for one that has ended, even if nobody has collected it yet."""
    try:
        # The name is in brackets and may hold spaces; the state comes first after it, the start 19 words later.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    if words[0] in "ZX":
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return 0
    return int(words[19])
