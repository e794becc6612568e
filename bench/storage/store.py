"""A store that is measured: its data sets in a cache, copies of them to measure on, and its CPU clock."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

import chatkernel.storage as adapters
from bench import machine
from bench.errors import BenchError
from bench.storage import shape
from bench.storage.shape import Shape
from chatkernel.storage.model import InsertOutcome
from chatkernel.storage.open import open_store

_CHANNELS_AT_ONCE = 50
"""With their members in one transaction, which has a deadline."""


class LeftOut(Exception):
    """A size that is not measured; the message says why."""


class Measured(ABC):
    """One database. What it starts ends with `close`."""

    name: str
    words: str
    """Which version, and how it was set up."""
    separate = True
    """Whether the store has processes of its own: else all CPU is the pod's."""

    @property
    def no_channels(self) -> str:
        """Why appends to all channels are not measured, and those to one are one person's; nothing if all are."""
        return ""

    @abstractmethod
    async def prepare(self, size: int) -> float:
        """Have this data set, and how many seconds it took to make it (0: it was there). Raises LeftOut."""

    @abstractmethod
    def copy(self, size: int) -> AbstractContextManager[str]:
        """The URL of a copy of the data set, to be changed."""

    @abstractmethod
    def disk_bytes(self, size: int) -> int:
        """Of the data set; 0 where it is on none."""

    @abstractmethod
    def processes(self) -> Iterable[psutil.Process]: ...

    @abstractmethod
    def close(self) -> None: ...

    def cpu_s(self) -> float:
        """Of all the store's own processes until now."""
        total = 0.0
        for process in self.processes():
            try:
                total += machine.cpu_s(process.pid)
            except (OSError, psutil.NoSuchProcess):
                continue
        return total

    def pin(self) -> None:
        """To the core that is not the pod's."""
        for process in self.processes():
            machine.pin(process.pid, machine.CLIENT_CORE)


def cache_folder() -> Path:
    """Outside of the tree, and where the user that PostgreSQL runs as can reach it, too."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        base = Path(given)
    elif os.getuid() == 0:
        base = Path("/var/cache")
    else:
        base = Path.home() / ".cache"
    return base / "chatcluster" / "bench-storage"


def kept(cache: Path, name: str, makers: Iterable[Callable[..., object]]) -> Path:
    """The folder of a store's data sets as these functions make them; those that others made are removed."""
    digest = hashlib.sha256(Path(shape.__file__).read_bytes())
    for path in _schema_sources():
        digest.update(path.read_bytes())
    for maker in makers:
        digest.update(inspect.getsource(maker).encode())
    folder = cache / f"{name}-{digest.hexdigest()[:12]}"
    for old in cache.glob(f"{name}-*"):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _schema_sources() -> list[Path]:
    """What makes the tables of the SQL adapter."""
    sql = Path(adapters.__path__[0]) / "sql"
    return [sql / "schema.py", *sorted((sql / "migrations" / "versions").glob("*.py"))]


def room_for(folder: Path, size: int, bytes_per_event: int) -> None:
    """For the data set and its copy. Raises LeftOut."""
    needed, free = 2 * size * bytes_per_event, shutil.disk_usage(folder).free
    if needed > free:
        raise LeftOut(f"needs {needed >> 30} GiB of disk, and there are {free >> 30} GiB")


async def begin(url: str, shape: Shape) -> None:
    """The schema and the channels with their members, by the ports themselves."""
    store = await open_store(url)
    try:
        await store.ensure_schema()
        runs = shape.begin()
        for start in range(0, len(runs), _CHANNELS_AT_ONCE):
            outcomes = await store.insert(runs[start : start + _CHANNELS_AT_ONCE])
            if any(outcome is not InsertOutcome.STORED for outcome in outcomes):
                raise BenchError("the store refused a new channel")
    finally:
        await store.aclose()
