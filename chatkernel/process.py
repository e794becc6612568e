"""What every service's process does first, and how the request services are run."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import uvloop

from chatkernel.errors import ChatError
from chatkernel.logs import configure_logs
from chatkernel.settings import ServiceSettings, SettingsError, load_settings

SWITCH_INTERVAL_S = 0.0005
"""How long a busy event loop may keep the store's threads waiting for the interpreter: with Python's 5 ms an insert
of 64 took 46 ms at the median beside a busy loop, with 1 ms it took 13 ms."""

GC_THRESHOLD = 20_000
"""Allocations between collections of the youngest generation: at Python's 700 a busy pod collects all the time,
and finds nothing, since its objects die by reference count."""
GC_OLDER = 5
"""Collections of one generation between those of the next. Not all dies by reference count: an operation that fails
on PostgreSQL leaves its traceback, and the frames in it, in a circle. Old enough it waits for the last generation,
and with 20 and 50 here none came: a chat pod grew by 8 MiB with each minute that its server was cut off, where with
5 it stays at 35 MiB more (the interpreter itself waits until a quarter of what lives is new)."""


def settle_in() -> None:
    """Called when everything is imported: what is there by now stays, so the collector need not look at it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, GC_OLDER, GC_OLDER)


def run_service(name: str, serve: Callable[[ServiceSettings], Coroutine[Any, Any, None]]) -> None:
    """Run a service that may stop at once: until `serve` ends, or a signal. What it cannot start with is one line."""
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    try:
        settings = load_settings()
        configure_logs(name, settings.pod, settings.log_level)
        settle_in()
        uvloop.run(serve(settings))
    except (SettingsError, ChatError, OSError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(1) from error


def _exit_cleanly(signum: int, frame: FrameType | None) -> None:
    """Before and after uvicorn has the signals (it raises them again when it has stopped) they end the process."""
    raise SystemExit(0)
