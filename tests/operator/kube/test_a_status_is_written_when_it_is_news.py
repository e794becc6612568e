"""Numbers that move all the time are no news: a cluster at rest writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from support.kube_api import KubeApi
from support.kube_cluster import CLUSTER

from chatoperator.kube.cache import Cache
from chatoperator.kube.statuswriter import COUNTS_S, MEASURED_S, StatusWriter
from chatoperator.resource_status import (
    ChatPodsStatus,
    Condition,
    ConditionType,
    DeliveryStatus,
    Status,
    Truth,
)

AT = "2026-01-31T12:00:00Z"
WELL = Condition(type=ConditionType.DEGRADED, status=Truth.FALSE, reason="AllWell", last_transition_time=AT)
MEASURED = DeliveryStatus(p50_ms=3.0, p99_ms=9.0, checked_at=AT)
STATUS = Status(conditions=[WELL], chat_pods=ChatPodsStatus(2, 2, 2, 0, 10), delivery=MEASURED)


class Page:
    """A status, as it stands on the API server and is written again."""

    def __init__(self, api: KubeApi) -> None:
        self.api, self.now = api, 1_000.0
        client = api.client()
        self.aclose = client.aclose
        self._writer = StatusWriter(client, Cache(client, ["team"]), now=lambda: self.now)

    async def says(self, status: Status, after_s: float = 0.0) -> bool:
        """Whether it was written."""
        self.now += after_s
        before = self.api.asked("PATCH", "chatclusters")
        await self._writer.write(self.api.objects[CLUSTER], status)
        assert (self._writer.read(self.api.objects[CLUSTER]) == status) or not self._was_written(before)
        return self._was_written(before)

    def _was_written(self, before: int) -> bool:
        return self.api.asked("PATCH", "chatclusters") > before


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with KubeApi().running() as api:
        api.put(CLUSTER, {"spec": {}})
        made = Page(api)
        assert await made.says(STATUS)
        yield made
        await made.aclose()


def delivery(**fields: Any) -> Status:
    return replace(STATUS, delivery=replace(MEASURED, **fields))


def degraded(**fields: Any) -> Status:
    return replace(STATUS, conditions=[replace(WELL, **fields)])


async def test_what_is_the_same_but_for_its_time_is_never_written(page: Page) -> None:
    for minute in range(30):
        measured = delivery(checked_at=f"2026-01-31T12:{minute:02}:01Z", p50_ms=3.0 + minute % 7, p99_ms=40.0)
        assert not await page.says(measured, after_s=60)


async def test_latencies_that_are_others_altogether_are_told_in_time(page: Page) -> None:
    assert not await page.says(delivery(p99_ms=900.0), after_s=MEASURED_S - 1)
    assert await page.says(delivery(p99_ms=900.0), after_s=1)
    assert not await page.says(delivery(p99_ms=1_700.0), after_s=MEASURED_S)
    assert await page.says(delivery(p99_ms=9.0))


async def test_that_it_is_measured_at_all_is_told_at_once(page: Page) -> None:
    assert await page.says(replace(STATUS, delivery=None))
    assert await page.says(delivery(p50_ms=None, p99_ms=None))
    assert await page.says(STATUS)


@pytest.mark.parametrize(
    "moved",
    [
        replace(STATUS, chat_pods=ChatPodsStatus(2, 2, 2, 0, 11)),
        delivery(gaps=1),
        degraded(message="3001 connections want 4 pods"),
    ],
    ids=["connections", "gaps", "message"],
)
async def test_what_moves_with_the_load_is_told_now_and_then(page: Page, moved: Status) -> None:
    assert not await page.says(moved, after_s=COUNTS_S - 1)
    assert await page.says(moved, after_s=1)


@pytest.mark.parametrize(
    "turned",
    [
        replace(STATUS, chat_pods=ChatPodsStatus(2, 2, 1, 0, 10)),
        degraded(status=Truth.TRUE),
        degraded(reason="PodsCrash"),
        replace(STATUS, image="localhost/chatcluster:2"),
        replace(STATUS, observed_generation=2),
    ],
    ids=["pods", "status", "reason", "image", "generation"],
)
async def test_what_has_turned_is_told_at_once(page: Page, turned: Status) -> None:
    assert await page.says(turned)
