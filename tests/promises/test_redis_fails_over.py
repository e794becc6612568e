"""A Redis of several servers loses one: connections stay, sends are acked, and delivery catches up within a heartbeat
after another has its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support.cluster import HEARTBEAT_S, Cluster, default_spec, eventually, running_cluster
from support.crew import crew
from support.redis_servers import REDIS_7, VALKEY, Server, cluster_servers, sentinels

from chatkernel.keys import Keys
from chatkernel.redis_cluster import slot_of

pytestmark = pytest.mark.slow

FAILOVER_S = 20.0
MARGIN_S = 2.0

PREFIX = "team-1"


@contextmanager
def under_sentinels() -> Iterator[tuple[str, Callable[[], Server]]]:
    with sentinels(REDIS_7 or VALKEY) as servers:
        yield servers.url, servers.primary


@contextmanager
def of_six_nodes() -> Iterator[tuple[str, Callable[[], Server]]]:
    """The node that has the registry goes, which every part of the cluster needs."""
    registry = slot_of(Keys(PREFIX, "laptop").registry)
    with cluster_servers(VALKEY) as servers:
        yield servers.url, lambda: servers.owner_of(registry)


@pytest.mark.parametrize("redis", [under_sentinels, of_six_nodes])
def test_a_primary_is_killed_while_people_talk(
    redis: Callable[[], AbstractContextManager[tuple[str, Callable[[], Server]]]], tmp_path: Path
) -> None:
    with redis() as (url, victim):
        spec = {**default_spec(), "redis": {"url": url, "keyPrefix": PREFIX}}
        with running_cluster(tmp_path / "data", spec) as cluster:
            asyncio.run(lose_one(cluster, victim))


async def lose_one(cluster: Cluster, victim: Callable[[], Server]) -> None:
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        one, other = await cluster.ready()
        phones = [await some.phone(ann, one), await some.phone(bob, one), await some.phone(bob, other)]
        await some.send(phones[0], channel)
        assert await some.settled(channel, 5.0)

        victim().kill()
        killed_at = time.monotonic()
        while time.monotonic() - killed_at < 1.0:
            await asyncio.gather(*(some.send(phone, channel) for phone in phones))
        assert all(sent.acked_at is not None and sent.acked_at - sent.sent_at < 1.0 for sent in some.sent)

        async def is_well() -> bool:
            return not any([(await cluster.statz(pod))["degraded"] for pod in (one, other)])

        await eventually(is_well, FAILOVER_S)
        assert await some.settled(channel, HEARTBEAT_S + MARGIN_S)
        live = await some.send(phones[0], channel)

        async def heard() -> bool:
            return all(phone.client.cursors[channel] >= live.seq for phone in phones)

        await eventually(heard, HEARTBEAT_S + MARGIN_S)
        assert [phone.client.reconnects for phone in phones] == [0, 0, 0]
        verdict = await some.judge([channel])
        assert verdict.kept and verdict.refused == 0, verdict
