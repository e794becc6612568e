"""Promise 2: a resend is never a duplicate, for ever, from any pod; it returns the first ack."""

from __future__ import annotations

import asyncio

import pytest
from breaks import Breaks
from support.cluster import Cluster
from support.crew import Crew, crew, read_log
from support.rawsocket import Frame, RawSocket

KEYS = [f"key-{n}" for n in range(8)]


async def resend_everywhere(some: Crew) -> tuple[dict[str, list[Frame]], list[str]]:
    """Each key is sent at once by two devices on two pods and by HTTP, and again later: all acks by key, and the
    keys of the log."""
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    pods = await some.cluster.ready()
    sockets = [await some.socket(ann, pod) for pod in pods[:2]]
    acks: dict[str, list[Frame]] = {key: [] for key in KEYS}

    async def by_socket(socket: RawSocket, key: str) -> None:
        acks[key].append(await socket.send(channel, key, f"text of {key}"))

    async def by_http(key: str) -> None:
        answer = await ann.frame("send", channel_id=channel, client_msg_id=key, text=f"text of {key}")
        acks[key] += answer["frames"]

    for _ in range(2):
        calls = [by_socket(socket, key) for key in KEYS for socket in sockets]
        await asyncio.gather(*calls, *(by_http(key) for key in KEYS))
    log = await read_log(some.cluster, channel)
    return acks, [event.client_msg_id for event in log if event.text]


def assert_each_is_stored_once(acks: dict[str, list[Frame]], stored: list[str]) -> None:
    for key, answers in acks.items():
        assert [answer["type"] for answer in answers] == ["ack"] * 6, answers
        places = {(answer["seq"], answer["message_id"], answer["created_at"]) for answer in answers}
        assert len(places) == 1, f"{key} was acked at {places}"
        firsts = [answer for answer in answers if not answer.get("duplicate")]
        assert len(firsts) <= 1
    assert sorted(stored) == sorted(acks)


async def test_a_resend_by_any_way_gets_the_first_ack(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_each_is_stored_once(*await resend_everywhere(some))


async def test_a_pod_that_forgets_client_msg_ids_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("forgets_client_msg_id"):
            found = await resend_everywhere(some)
        with pytest.raises(AssertionError, match="was acked at"):
            assert_each_is_stored_once(*found)
