"""A worker as a process, with a Redis and a store of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
from support.valkey import Valkey, free_port

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
def workers(
    valkey: Valkey, folder: Path, count: int = 1, store_url: str = "", **settings: Any
) -> Iterator[list[Worker]]:
    """`settings`: others than usual."""
    url = store_url or f"sqlite:///{folder}/chat.db"
    # As the operator does before it starts any: workers only look whether it is there.
    make_schema = [sys.executable, "-m", "chatoperator.schemajob"]
    subprocess.run(make_schema, env={**os.environ, "CHAT_STORE_URL": url}, check=True)
    made = [
        Worker(
            ServiceSettings(
                cluster="test",
                pod=f"worker-{number}",
                revision="r1",
                redis_url=valkey.url,
                store_url=url,
                secret_file="unused",
                port=free_port(),
                lease_s=LEASE_S,
                **settings,
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
