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
