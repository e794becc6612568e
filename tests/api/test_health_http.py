"""Health: alive, ready, and what is missing."""

import asyncio
import sqlite3

import httpx
from support.api_pod import Pod, settings_of


async def test_a_whole_pod_is_ready(http):
    assert (await http.get("/healthz")).json() == {"live": True}
    ready = await http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"pod": "api-0", "ready": True, "degraded": []}
    stats = (await http.get("/statz")).json()
    assert stats["requests"] >= 2 and stats["rss_kib"] > 0 and stats["cpu_s"] > 0


async def test_without_its_store_a_pod_lives_but_is_not_ready(valkey, tmp_path):
    pod = await asyncio.to_thread(Pod(settings_of(tmp_path, valkey.url)).start)
    try:
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as http:
            assert (await http.get("/readyz")).status_code == 200
            with sqlite3.connect(tmp_path / "chat.db") as database:
                tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in tables:
                    if not name.startswith("sqlite_"):
                        database.execute(f'DROP TABLE "{name}"')
            answer = await http.get("/readyz")
            assert answer.status_code == 503 and answer.json()["ready"] is False
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/statz")).json()["degraded"] == ["store"]
    finally:
        await asyncio.to_thread(pod.stop)
