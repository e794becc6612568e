"""An API pod as the operator runs it: a process of its own."""

import asyncio
import os
import signal
import sys

import httpx
import msgspec
import pytest
from support.api_pod import SECRETS, settings_of
from support.valkey import eventually

from chatkernel.storage.open import open_store


class Process:
    def __init__(self, child, url):
        self.child, self.url = child, url

    @property
    def pid(self):
        return self.child.pid

    async def stop(self, sig=signal.SIGTERM):
        if self.child.returncode is None:
            self.child.send_signal(sig)
        return await asyncio.wait_for(self.child.wait(), 10)


@pytest.fixture
async def start(valkey, tmp_path):
    settings = settings_of(tmp_path, valkey.url, secret_file=str(tmp_path / "secrets.json"))
    store = await open_store(settings.store_url)
    await store.ensure_schema()
    await store.aclose()
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(SECRETS))
    started = []

    async def run(name):
        path = tmp_path / f"{name}.json"
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(settings, pod=name)))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "apipod.main", env={**os.environ, "CHAT_CONFIG": str(path)}
        )
        process = Process(child, f"http://127.0.0.1:{settings.port}")
        started.append(process)
        return process

    yield run
    for process in started:
        await process.stop(signal.SIGKILL)


async def pods_answering(url):
    """Which pods answer on the port: each connection may reach another."""
    names = set()
    for _ in range(12):
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False) as http:
                answer = await http.get(url + "/readyz")
            names.add(answer.json()["pod"])
        except httpx.TransportError:
            names.add(None)
    return names


async def test_it_starts_serves_and_stops_on_sigterm(start):
    process = await start("api-0")

    async def up():
        return await pods_answering(process.url) == {"api-0"}

    await eventually(up, 30)
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
        stats = (await http.get("/statz")).json()
        assert stats["pod"] == "api-0" and stats["requests"] >= 1 and stats["rss_kib"] > 1000
        assert stats["degraded"] == []
        assert await process.stop() == 0


@pytest.mark.slow
async def test_a_successor_takes_over_on_the_same_port(start):
    old = await start("api-0")

    async def old_up():
        return await pods_answering(old.url) == {"api-0"}

    await eventually(old_up, 30)
    statuses, resets, done = [], [], asyncio.Event()

    async def ask_all_the_time():
        async with httpx.AsyncClient(
            trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        ) as http:
            while not done.is_set():
                try:
                    statuses.append((await http.get(old.url + "/healthz")).status_code)
                except httpx.TransportError:
                    # Linux resets what waited to be accepted on the socket that closes; such a request was never
                    # taken, and is asked again. Where that must not be, both pods share one socket (the laptop).
                    resets.append(1)

    asking = asyncio.create_task(ask_all_the_time())
    new = await start("api-1")

    async def both_up():
        return await pods_answering(old.url) == {"api-0", "api-1"}

    await eventually(both_up, 30)
    assert await old.stop() == 0

    async def only_new():
        return await pods_answering(new.url) == {"api-1"}

    await eventually(only_new, 30)
    done.set()
    await asking
    assert set(statuses) == {200} and len(resets) <= 1


async def test_settings_that_cannot_be_used_are_a_clear_line(tmp_path):
    environ = {**os.environ, "CHAT_CONFIG": str(tmp_path / "missing.json")}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "apipod.main", env=environ, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await child.communicate()
    assert child.returncode == 1 and b"missing.json" in errors and b"Traceback" not in errors
