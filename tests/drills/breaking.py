"""What the stores' faults have in common: how they strike and heal, wires that are cut or slow, and small disks."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from support.wires import Wire

from drills.store_fault import StoreFault

CUT_S = 60.0
FREEZE_S = 20.0
ERRORS_S, SLOW_S, FULL_S = 15.0, 15.0, 10.0
DELAY_S = 0.1
ONE_IN = 10
SMALL_DISK_MIB = 192

Broken = Callable[[], AbstractAsyncContextManager[None]]


def done(strike: Callable[[], object], heal: Callable[[], object]) -> Broken:
    """From two plain functions, which are quick."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        strike()
        try:
            yield
        finally:
            heal()

    return broken


def start_failing(wire: Wire, every: int) -> None:
    wire.failed, wire.fails_every = 0, every


def stop_failing(wire: Wire) -> None:
    wire.fails_every = 0
    if not wire.failed:
        raise AssertionError("nothing failed on the wire")


def of_wire(wire: Wire) -> list[StoreFault]:
    def slow(delay_s: float) -> Callable[[], None]:
        return lambda: setattr(wire, "delay_s", delay_s)

    return [
        StoreFault("cut", CUT_S, done(wire.cut, wire.mend), stops=True),
        StoreFault("slow", SLOW_S, done(slow(DELAY_S), slow(0.0))),
    ]


@contextmanager
def small_disk(mib: int) -> Iterator[Path | None]:
    """A file system of its own, which only root may make; None, and a word about it, where that is impossible."""
    with tempfile.TemporaryDirectory(prefix="drill-disk-") as folder:
        image, place = Path(folder) / "image", Path(folder) / "disk"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(mib << 20)
        # A real one, on which `fsync` means something.
        make = ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
        mount = ["mount", "-o", "loop", str(image), str(place)]
        if os.geteuid() != 0 or not shutil.which(make[0]) or not all(_worked(step) for step in (make, mount)):
            print("NOT DRILLED: a full disk, since no file system can be mounted here", flush=True)
            yield None
            return
        # Others than root have to get there.
        Path(folder).chmod(0o755)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _worked(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def full(disk: Path, afterwards: Callable[[], Awaitable[None]]) -> Broken:
    """Not a byte is left, and what is freed meanwhile is taken, too."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        filler = disk / "filler"
        ended = asyncio.Event()

        async def fill() -> None:
            """By reserving what is free: writing it would keep the whole machine busy."""
            with filler.open("wb", buffering=0) as file:
                while not ended.is_set():
                    free = os.statvfs(disk)
                    for size in (free.f_bavail * free.f_frsize, free.f_frsize):
                        with suppress(OSError):
                            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                    await asyncio.sleep(0.02)

        filling = asyncio.create_task(fill())
        try:
            yield
        finally:
            ended.set()
            await filling
            filler.unlink()
            await afterwards()

    return broken
