"""Promise 1: an acked message is never lost, also when the pod that acked it is gone in the same moment."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from breaks import Breaks
from support.cluster import Cluster
from support.crew import Crew, crew, read_log

BURST = 300


async def kill_after_the_first_ack(some: Crew) -> tuple[set[str], set[str]]:
    """A burst of messages, and SIGKILL for their pod as soon as one is acked: the keys acked, the keys stored."""
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    pods = await some.cluster.pods()
    pod = sorted(pods)[0]
    socket = await some.socket(ann, pod)

    def is_ack(frame: dict[str, Any]) -> bool:
        return frame["type"] == "ack" and frame["id"].startswith("key")

    for n in range(BURST):
        await socket.say("send", id=f"key{n}", channel_id=channel, client_msg_id=f"key{n}", text="x" * 200)
    await socket.until(is_ack)
    os.kill(pods[pod]["pid"], signal.SIGKILL)
    await socket.closed()
    acked = {frame["id"] for frame in socket.frames if is_ack(frame)}
    await asyncio.sleep(0.3)  # a pod that is dead stores nothing more; a broken one would have had its chance
    stored = {event.client_msg_id for event in await read_log(some.cluster, channel)}
    return acked, stored


def assert_what_was_acked_is_there(acked: set[str], stored: set[str]) -> None:
    assert acked, "nothing was acked: nothing is shown"
    assert acked <= stored, f"{len(acked - stored)} of {len(acked)} acked messages are lost"


async def test_what_was_acked_before_a_kill_is_stored(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_what_was_acked_is_there(*await kill_after_the_first_ack(some))


async def test_a_pod_that_acks_before_the_insert_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("acks_before_insert"):
            found = await kill_after_the_first_ack(some)
        with pytest.raises(AssertionError, match="acked messages are lost"):
            assert_what_was_acked_is_there(*found)
