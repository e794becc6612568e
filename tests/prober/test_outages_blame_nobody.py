"""The prober while Redis, the store or the API is away: it says so, blames no pod, and goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support.town import Town

from chatkernel.probe_report import ProbeReport

pytestmark = pytest.mark.slow

OUTAGE_S = 12.0
PODS = {"chat-1", "chat-2"}


@contextmanager
def locked_store(town: Town) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    path = town.ground.store_url.removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


async def nobody_is_blamed(town: Town, for_s: float) -> list[ProbeReport]:
    reports: list[ProbeReport] = []
    end = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < end:
        reports.append(await town.report())
        assert town.blamed(reports[-1]) == set(), reports[-1]
        await asyncio.sleep(0.25)  # the time between two looks
    return reports


async def all_well(town: Town) -> None:
    await town.until(lambda report: town.well(report) == PODS and report.discovery_ok is True, 30)


async def test_a_store_that_is_away(town: Town) -> None:
    await town.settle(*PODS)
    with locked_store(town):
        reports = await nobody_is_blamed(town, OUTAGE_S)
    assert reports[-1].unknown == ["store"] and reports[-1].pods == {}
    assert reports[-1].discovery_ok is not False
    await nobody_is_blamed(town, 5)
    await all_well(town)


@pytest.mark.parametrize("how", ["frozen", "emptied", "killed"])
async def test_a_redis_that_is_away(town: Town, how: str) -> None:
    await town.settle(*PODS)
    valkey = town.ground.valkey
    if how == "emptied":
        valkey.flush()
    else:
        valkey.freeze() if how == "frozen" else valkey.kill()
        reports = await nobody_is_blamed(town, OUTAGE_S)
        assert reports[-1].unknown == ["redis"] and reports[-1].pods == {}
        valkey.thaw() if how == "frozen" else valkey.start()
    await nobody_is_blamed(town, 10)
    await all_well(town)


async def test_an_api_that_is_away_is_a_matter_of_discovery_alone(town: Town) -> None:
    await town.settle(*PODS)
    assert town.api is not None
    town.api.kill()
    report = await town.until(lambda report: report.discovery_ok is False, 25)
    assert town.well(report) == PODS and town.blamed(report) == set()


async def test_a_prober_that_begins_while_the_store_is_away_begins_when_it_is_back(town: Town) -> None:
    await town.settle(*PODS)
    assert town.prober is not None
    town.prober.kill()
    with locked_store(town):
        prober = town.start_prober()
        report = await town.until(lambda report: bool(report.unknown), 20)
        assert report.pods == {} and (await prober.get("/healthz")).status_code == 200
    await all_well(town)


async def test_it_makes_its_accounts_once_and_tells_nobody_of_them(town: Town) -> None:
    await town.settle(*PODS)
    assert town.prober is not None and town.api is not None
    town.prober.kill()
    town.start_prober()
    await all_well(town)
    path = town.ground.store_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT username FROM users").fetchall()
        channels = database.execute("SELECT count(*) FROM channels").fetchone()
        devices = database.execute("SELECT count(*) FROM devices").fetchone()
    names = [name for (name,) in rows]
    assert (len(names), channels, devices) == (2, (4,), (2,))
    assert all(name.startswith("probe-") and len(name) > 16 for name in names)
    async with httpx.AsyncClient(base_url=town.api.url, trust_env=False) as http:
        for password in ("", "password", "None"):
            answer = await http.post("/v1/sessions", json={"username": names[0], "password": password})
            assert answer.status_code in (401, 422)
    metrics = (await town.prober.get("/metrics")).text
    assert 'chat_probe_pod_delivers{pod="chat-1"} 1' in metrics and "chat_probe_discovery_ok 1" in metrics
    assert not any(name in metrics for name in names)


async def test_pods_that_go_and_come_are_followed(town: Town) -> None:
    await town.settle(*PODS)
    town.pods["chat-2"].process.terminate()
    report = await town.until(lambda report: set(report.pods) == {"chat-1"}, 20)
    assert town.blamed(report) == set()
    assert await town.pods["chat-2"].ended(10) == 0  # the prober's connection went by itself
    town.pods["chat-3"] = await town._pod("chat-3", None).started()
    report = await town.until(lambda report: town.well(report) == {"chat-1", "chat-3"}, 20)
    assert town.blamed(report) == set()
