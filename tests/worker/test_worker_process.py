"""The worker as a process: health, outages, stopping, and a dead pod's channels poked within moments."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from support.bus_pod import BusPod
from support.postgres import fresh_database, postgres_server
from support.valkey import Valkey, eventually, redis_client
from support.worker_process import LEASE_S, workers

from chatkernel.bus import Poke
from chatkernel.keys import Keys


async def test_it_works_through_a_killed_redis_logs_that_once_and_stops_when_told(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    with workers(own_valkey, tmp_path) as (worker,):
        await eventually(worker.ready, 20)
        assert (await worker.get("/healthz")) == (200, {"live": True})
        own_valkey.kill()
        await eventually(worker.degraded)
        await asyncio.sleep(1.2)
        own_valkey.start()
        await eventually(worker.ready)
        _, stats = await worker.get("/statz")
        assert stats["pod"] == "worker-0"
        assert stats["degraded"] == []
        assert stats["rss_kib"] > 1_000
        assert worker.events() == ["work interrupted", "work resumed"]
        # Frozen, so that work is under way that will not end by itself in time.
        own_valkey.freeze()
        await asyncio.sleep(0.6)
        worker.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert await asyncio.to_thread(worker.process.wait, 5) == 0
        assert time.monotonic() - started < 1.9  # less than Redis' time-out


async def take_all(url: str, taken: list[asyncpg.Connection]) -> None:
    with pytest.raises(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(url))


@pytest.mark.stores
async def test_a_database_without_a_connection_to_spare_is_an_outage_and_no_fault_of_the_worker_s(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    with postgres_server(max_connections=20, fsync="off") as server:
        url = server.url(fresh_database(server))
        with workers(own_valkey, tmp_path, store_url=url) as (worker,):
            await eventually(worker.ready, 20)
            taken: list[asyncpg.Connection] = []
            # Else it would take those that become free first.
            worker.process.send_signal(signal.SIGSTOP)
            await take_all(url, taken)
            theirs = "FROM pg_stat_activity WHERE application_name = 'chatcluster'"
            await taken[0].execute(f"SELECT pg_terminate_backend(pid) {theirs}")
            while await taken[0].fetchval(f"SELECT count(*) {theirs}"):
                pass
            await take_all(url, taken)
            worker.process.send_signal(signal.SIGCONT)

            async def degraded() -> bool:
                return bool((await worker.get("/readyz"))[1]["degraded"])

            await eventually(degraded)
            # A batch of the first job may have been under way when the worker was stopped.
            degraded_parts = set((await worker.get("/readyz"))[1]["degraded"])
            assert "store" in degraded_parts <= {"store", "job:retention"}
            for connection in taken:
                await connection.close()
            await eventually(worker.ready)
            told = [event for event in worker.events() if event != "job interrupted"]
            assert told == ["work interrupted", "work resumed"]
            assert "Traceback" not in worker.log.read_text()


async def test_a_dead_pods_channels_are_poked_by_one_of_two_workers_though_the_other_is_killed(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    keys = Keys("chat", "test")
    with workers(own_valkey, tmp_path, 2) as (first, second):
        async with redis_client(own_valkey.url) as client:
            await eventually(first.ready, 20)
            await eventually(second.ready, 20)
            alive, dead = BusPod(client, keys, "alive"), BusPod(client, keys, "dead")
            await alive.start("c")
            await dead.start("c", lease_s=LEASE_S)
            await dead.intents.begin(["c"])
            first.process.kill()

            async def poked() -> bool:
                return Poke(["c"]) in await alive.received()

            await eventually(poked, 4 * LEASE_S + 2)

            async def cleared() -> bool:
                return await alive.routes.resolve(["c"]) == [{"alive"}]

            await eventually(cleared)


async def test_a_setting_that_cannot_be_used_ends_it_with_a_line_and_no_traceback(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"cluster": 5}')
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "worker.main"],
        env={**os.environ, "CHAT_CONFIG": str(path)},
        capture_output=True,
        timeout=20,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"worker: ")
    assert b"$.cluster" in ended.stderr
    assert b"Traceback" not in ended.stderr
