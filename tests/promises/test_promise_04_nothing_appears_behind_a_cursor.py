"""Promise 4: once a device has synced up to N, nothing with an id ≤ N shows up later, whatever the clocks say."""

from __future__ import annotations

import asyncio

import pytest
from breaks import Breaks
from support.api_calls import Person
from support.cluster import Cluster
from support.crew import Crew, crew, read_log

from chatkernel.protocol import Event

WRITERS, SENDS = 4, 30
NEARLY_AN_HOUR_MS = 59 * 60_000


class Synced:
    """What a device that only ever syncs was given, in order, and how far it then was."""

    def __init__(self) -> None:
        self.cursor = 0
        self.seqs: list[int] = []
        self.message_ids: list[int] = []
        self.rounds = 0

    async def sync(self, person: Person, channel: str) -> None:
        answer = await person.frame("sync", cursors={channel: self.cursor})
        for frame in answer["frames"]:
            for event in frame.get("events", []):
                self.seqs.append(event["seq"])
                self.message_ids.append(event["message_id"])
            if channel in frame.get("heads", {}):
                self.cursor = frame["heads"][channel]["seq"]
        self.rounds += 1


async def sync_while_others_write(some: Crew) -> tuple[Synced, list[Event]]:
    """Writers on both pods, and a device that syncs over and over from where it was."""
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    pods = await some.cluster.ready()
    sockets = [await some.socket(ann, pods[n % 2]) for n in range(WRITERS)]
    synced = Synced()

    async def write(writer: int) -> None:
        for n in range(SENDS // 10):
            keys = [f"w{writer}-{n}-{m}" for m in range(10)]
            await asyncio.gather(*(sockets[writer].send(channel, key) for key in keys))

    writing = [asyncio.create_task(write(writer)) for writer in range(WRITERS)]
    while not all(task.done() for task in writing):
        await synced.sync(bob, channel)
    await asyncio.gather(*writing)
    await synced.sync(bob, channel)
    return synced, await read_log(some.cluster, channel)


def assert_nothing_came_behind(synced: Synced, log: list[Event]) -> None:
    assert synced.rounds > 3
    assert synced.seqs == [event.seq for event in log], "something appeared behind the cursor"
    assert synced.message_ids == [event.message_id for event in log]
    assert synced.message_ids == sorted(set(synced.message_ids))
    assert len(log) == 1 + WRITERS * SENDS


def assert_pods_clocks_were_apart(log: list[Event]) -> None:
    """Writers with even numbers are on the first pod, the one that is behind."""
    times: tuple[list[int], list[int]] = ([], [])
    for event in log[1:]:
        writer = int(event.client_msg_id.removeprefix("w").split("-")[0])
        times[writer % 2].append(event.created_at)
    behind, right = times
    assert min(right) - max(behind) > NEARLY_AN_HOUR_MS


async def test_a_device_that_syncs_while_others_write_has_everything(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_nothing_came_behind(*await sync_while_others_write(some))


async def test_pods_with_clocks_an_hour_apart_that_step_back(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        behind, _ = await breakable.ready()
        with breaks.on("clocks_apart", only=[behind]):
            synced, log = await sync_while_others_write(some)
        assert_nothing_came_behind(synced, log)
        assert_pods_clocks_were_apart(log)


async def test_a_sync_that_reads_behind_its_heads_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("reads_from_a_replica_that_lags"):
            found = await sync_while_others_write(some)
        with pytest.raises(AssertionError, match="behind the cursor"):
            assert_nothing_came_behind(*found)
