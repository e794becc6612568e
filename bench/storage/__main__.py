"""`python -m bench.storage`: measure the stores side by side, print tables, write `bench/results/storage.json`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from bench import machine
from bench.errors import BenchError
from bench.report import Target, table, write
from bench.storage import explain, figures, sqlplans
from bench.storage.calls import CALLS, Reading, reading
from bench.storage.postgres import PostgresMeasured
from bench.storage.shape import Shape
from bench.storage.store import LeftOut, Measured, cache_folder
from bench.storage.timing import appender_of, send_everywhere, time_appends, time_calls
from chatkernel.errors import ChatError
from chatkernel.storage.open import open_store
from docs.tools.blocks import with_blocks

RESULTS = Path(__file__).parents[1] / "results" / "storage.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "storage-figures.md"
SIZES = (10_000, 1_000_000, 10_000_000)
STORES = ("sqlite", "postgres", "mongo")
WIDTH = 160
"""Of the tables, also where there is no terminal."""
SENDERS = (1, 8, 64)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.storage", description=__doc__)
    parser.add_argument("--stores", default=",".join(STORES), help="comma separated")
    parser.add_argument(
        "--sizes", default=",".join(map(str, SIZES)), help="events, comma separated; 1e6 will do"
    )
    parser.add_argument("--only", default="", help=f"of: append, {', '.join(CALLS)} (comma separated)")
    parser.add_argument("--short", action="store_true", help="a sixth of the time for each figure")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where data sets are kept")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results are written")
    parser.add_argument(
        "--docs", action="store_true", help=f"put the results that there are into {DOCUMENT.name}"
    )
    return parser.parse_args()


class Run:
    """One run over stores and sizes."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._console, self._shape = console, Shape()
        self._cache: Path = options.cache
        self._windows, self._window_s = (2, 0.3) if options.short else (5, 0.7)
        self._only = {name for name in options.only.split(",") if name} or {"append", *CALLS}
        self.results: dict[str, Any] = {}
        self.sizes: dict[str, list[int]] = {}

    async def store(self, name: str, sizes: Sequence[int]) -> None:
        started, measured = time.monotonic(), self._measured(name)
        self._console.print(f"[bold]{measured.words}", highlight=False)
        self.results[f"{name}_plan_faults"] = 0
        try:
            for size in sizes:
                try:
                    took_s = await measured.prepare(size)
                except LeftOut as why:
                    self._left_out(f"{name}_{figures.size_name(size)}", str(why))
                    continue
                self.results[f"{name}_{figures.size_name(size)}_load_s"] = took_s
                disk_bytes = measured.disk_bytes(size)
                if disk_bytes:
                    self.results[f"{name}_{figures.size_name(size)}_bytes_per_event"] = disk_bytes / size
                self.sizes.setdefault(name, []).append(size)
                await self._size(measured, size)
        finally:
            measured.close()
        self.results[f"{name}_s"] = time.monotonic() - started

    def _left_out(self, key: str, why: str) -> None:
        self._console.print(f"  [yellow]{key}: left out: {why}", soft_wrap=True)
        self.results[f"{key}_left_out"] = why

    def _measured(self, name: str) -> Measured:
        if name == "sqlite":
            from bench.storage.sqlite import Sqlite

            return Sqlite(self._cache, self._shape)
        if name == "postgres":
            return PostgresMeasured(self._cache, self._shape)
        if name == "mongo":
            from bench.storage.mongo import MongoMeasured

            return MongoMeasured(self._shape)
        raise BenchError(f"no such store: {name} (there are {', '.join(STORES)})")

    async def _size(self, measured: Measured, size: int) -> None:
        begun, neighbours = time.monotonic(), machine.Neighbours()
        key = f"{measured.name}_{figures.size_name(size)}"
        with measured.copy(size) as url:
            copied = time.monotonic() - begun
            wrong = await self._plans(measured, url)
            self.results[f"{measured.name}_plan_faults"] += len(wrong)
            await self._figures(measured, url, key)
        self.results[f"{key}_other_cpu_share"] = neighbours.share()
        self._console.print(
            f"  {figures.size_name(size)} events: {len(wrong)} plans wrong [dim]({time.monotonic() - begun:.0f} s,"
            f" {copied:.0f} s of it copying; others {neighbours.share():.0%} of the CPU)"
        )
        for each in wrong:
            self._console.print(f"[red]{each}", markup=True, soft_wrap=True)

    async def _plans(self, measured: Measured, url: str) -> list[str]:
        """With the plan for each call's own parameters, and with the one for all."""
        if not isinstance(measured, PostgresMeasured):
            return explain.faults(await explain.explained(url, self._shape, times=1))
        wrong: list[str] = []
        for more in ([], [sqlplans.ONE_PLAN_FOR_ALL]):
            measured.sessions([*sqlplans.AUTO_EXPLAIN, *more])
            wrong += explain.faults(await explain.explained(url, self._shape))
        measured.sessions([])
        return list(dict.fromkeys(wrong))

    async def _figures(self, measured: Measured, url: str, key: str) -> None:
        store = await open_store(url)
        try:
            at = await reading(store, self._shape)
            measured.pin()
            for name, make in CALLS.items():
                if name in self._only:
                    windows = await time_calls(measured, at, make, self._windows, self._window_s)
                    self.results |= figures.figures(f"{key}_{name}", windows, rates=False)
            if "append" in self._only:
                await self._appends(measured, at, key)
        finally:
            await store.aclose()

    async def _appends(self, measured: Measured, at: Reading, key: str) -> None:
        """To one channel, which is not the largest (that one is nobody's usual group), and to all."""
        for channels in (at.shape.channels[1:2], at.shape.channels):
            if measured.no_channels and len(channels) > 1:
                self._left_out(f"{key}_append_to_all", measured.no_channels)
                continue
            if measured.no_channels:
                channels = [replace(each, members=each.members[:1]) for each in channels]
            appender = appender_of(at.store)
            await send_everywhere(appender, at, channels)
            for senders in SENDERS:
                windows = await time_appends(
                    measured, appender, at, senders, channels, self._windows, 2 * self._window_s
                )
                name = f"{key}_append_{senders}x{len(channels)}"
                self.results |= figures.figures(name, windows, rates=True)
            await appender.aclose()


async def run(options: argparse.Namespace, console: Console) -> int:
    names = [name for name in options.stores.split(",") if name]
    sizes = sorted(int(float(size)) for size in options.sizes.split(","))
    described, started = machine.describe(), time.monotonic()
    described["pinned"] = len(machine.CORES) > 1
    machine.pin(os.getpid(), machine.SERVER_CORE)
    this, failed = Run(options, console), False
    for name in names:
        try:
            await this.store(name, sizes)
        except (BenchError, ChatError) as error:
            failed = True
            console.print(f"[red]{name}: {error}", soft_wrap=True)
    wanted: dict[str, Target] = {}
    for name, measured in this.sizes.items():
        this.results |= figures.growth(this.results, name, measured)
        wanted |= figures.targets(this.results, name, measured)
    for grid in figures.side_by_side(this.results):
        console.print(grid)
    this.results["bench_s"] = time.monotonic() - started
    mode = "short" if options.short else "full"
    write(this.results, mode, described, options.output, wanted)
    console.print(table({key: this.results.get(key) for key in wanted}, mode, wanted))
    console.print(f"took {time.monotonic() - started:.0f} s")
    return 1 if failed or figures.missed(this.results, wanted, is_part=bool(options.only)) else 0


def main() -> int:
    options = arguments()
    console = Console(width=max(WIDTH, Console().width))
    if options.docs:
        results = json.loads(options.output.read_text())
        DOCUMENT.write_text(with_blocks(DOCUMENT.read_text(), {"figures": figures.markdown(results)}))
        return 0
    try:
        return uvloop.run(run(options, console))
    except BenchError as error:
        console.print(f"[red]{error}", soft_wrap=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
