"""A store that stands still: the API pod goes on answering, at most so many requests wait, and nothing has to be
started again when the store goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api_calls import Person, problem, sign_up
from support.api_pod import Pod, serving, settings_of
from support.valkey import Valkey, eventually

from chatkernel.protocol import Limits

AT_ONCE = 5
ANSWERS_WITHIN_S = 1.0
"""So long the operator waits for an answer about a pod's health, before it takes the pod for dead."""


class Hanging:
    """Calls of one operation of the store hang until they are let go."""

    def __init__(self, pod: Pod, name: str) -> None:
        assert pod.services is not None
        self._pod, self._store, self._name = pod, pod.services.store, name
        self._real = getattr(self._store, name)
        self._go = asyncio.Event()
        self.calls = 0
        setattr(self._store, name, self._hang)

    async def _hang(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        await self._go.wait()
        return await self._real(*args, **kwargs)

    def let_go(self) -> None:
        self._pod.loop.call_soon_threadsafe(self._go.set)
        setattr(self._store, self._name, self._real)


@pytest.fixture
async def own(valkey: Valkey, tmp_path: Path) -> AsyncIterator[tuple[Pod, httpx.AsyncClient]]:
    settings = settings_of(tmp_path, valkey.url, limits=Limits(requests_at_once_max=AT_ONCE))
    async with serving(settings) as (pod, http):
        yield pod, http


async def test_one_too_many_is_busy_and_afterwards_there_is_room(own: tuple[Pod, httpx.AsyncClient]) -> None:
    pod, http = own
    ann: Person = await sign_up(http)
    store = Hanging(pod, "settings")
    waiting = [asyncio.create_task(ann.ask("GET", "/v1/me/settings")) for _ in range(AT_ONCE)]

    async def all_wait() -> bool:
        return store.calls == AT_ONCE

    await eventually(all_wait)
    refused = await ann.ask("GET", "/v1/me/settings")
    document = problem(refused, 503, "busy")
    assert document["retryable"] and document["limit"] == AT_ONCE and document["retry_after_s"] == 1.0
    assert refused.headers["retry-after"] == "1"
    # What is asked about the pod itself is never one too many.
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).status_code == 200
    store.let_go()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * AT_ONCE
    await ann.ok("GET", "/v1/me/settings")


async def test_health_answers_in_time_and_asks_once(own: tuple[Pod, httpx.AsyncClient]) -> None:
    pod, http = own
    store = Hanging(pod, "check")
    for _ in range(2):
        began = time.monotonic()
        answer = await http.get("/readyz")
        assert time.monotonic() - began < ANSWERS_WITHIN_S
        assert answer.status_code == 503 and answer.json()["ready"] is False
    assert (await http.get("/statz")).json()["degraded"] == ["store"]
    assert store.calls == 1
    store.let_go()

    async def ready() -> bool:
        return (await http.get("/readyz")).status_code == 200

    await eventually(ready)
