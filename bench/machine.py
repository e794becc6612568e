"""CPU clocks of other processes, pinning, file limits, and what machine this is."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
CORES = sorted(os.sched_getaffinity(0)) if LINUX else list(range(os.cpu_count() or 1))
"""The cores that this process was given, as of its start."""

SERVER_CORE = CORES[0]
CLIENT_CORE = CORES[-1]


def cpu_s(pid: int) -> float:
    """User and system CPU seconds that the process and all its threads, also ended ones, have used."""
    if LINUX:
        # Linux makes a clock of every process: nanoseconds, where /proc/<pid>/stat has hundredths.
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def stolen_s() -> float:
    """Seconds that the machine's host gave to others while ours wanted them, over all cores."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def rss_kib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1024


def pin(pid: int, core: int | None) -> None:
    """Keep a process and its threads on one core (None: any). Without two cores, or off Linux, nothing."""
    if not LINUX or len(CORES) < 2:
        return
    allowed = set(CORES) if core is None else {core}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), allowed)


def raise_file_limit() -> int:
    """As many open files as this user may have; the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class Neighbours:
    """How much of the machine others used meanwhile: it decides whether latencies can be trusted."""

    def __init__(self) -> None:
        self._at, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()

    def share(self) -> float:
        """Of all cores, since this was made."""
        others_s = (_busy_s() - self._busy) - (_own_s() - self._own)
        return max(0.0, others_s) / max(1e-9, (time.monotonic() - self._at) * len(CORES))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_s() -> float:
    """This process, its children that ended, and all that descend from it and live."""
    ended = os.times()
    total_s = ended.user + ended.system + ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, OSError):
            total_s += cpu_s(child.pid)
    return total_s


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, object]:
    """What must be known to compare numbers: no names, no paths."""
    return {
        "cpu": _cpu_model(),
        "cores": len(CORES),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }
