"""The worker as a process: health, outages, stopping, and a dead pod's channels poked within moments."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
from support.bus_pod import BusPod
from support.valkey import Valkey, eventually, free_port, redis_client

from chatkernel.bus import Poke
from chatkernel.keys import Keys
from chatkernel.settings import ServiceSettings

LEASE_S = 0.5


class Worker:
    def __init__(self, settings: ServiceSettings, folder: Path) -> None:
        path = folder / f"{settings.pod}.json"
        path.write_bytes(msgspec.json.encode(settings))
        self.log = folder / f"{settings.pod}.log"
        self.port = settings.port
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.main"],
                env={**os.environ, "CHAT_CONFIG": str(path)},
                stderr=log,
            )

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=3.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    async def ready(self) -> bool:
        try:
            status, body = await self.get("/readyz")
        except OSError:
            return False
        return status == 200 and body == {"ready": True, "degraded": []}

    async def degraded(self) -> bool:
        return "redis" in (await self.get("/readyz"))[1]["degraded"]

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines()]


@contextmanager
def workers(valkey: Valkey, folder: Path, count: int = 1) -> Iterator[list[Worker]]:
    # As the operator does before it starts any: workers only look whether it is there.
    make_schema = [sys.executable, "-m", "chatoperator.schemajob"]
    environ = {**os.environ, "CHAT_STORE_URL": f"sqlite:///{folder}/chat.db"}
    subprocess.run(make_schema, env=environ, check=True)
    made = [
        Worker(
            ServiceSettings(
                cluster="test",
                pod=f"worker-{number}",
                revision="r1",
                redis_url=valkey.url,
                store_url=f"sqlite:///{folder}/chat.db",
                secret_file="unused",
                port=free_port(),
                lease_s=LEASE_S,
            ),
            folder,
        )
        for number in range(count)
    ]
    try:
        yield made
    finally:
        for worker in made:
            worker.process.kill()
            worker.process.wait()


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
