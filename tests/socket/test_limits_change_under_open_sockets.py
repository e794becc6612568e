"""Limits that are changed in the file while people chat: they hold within two seconds, and no pod is replaced."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from support.cluster import Cluster, eventually
from support.crew import Crew
from support.rawsocket import RawSocket

WITHIN_S = 2.0
LEAST = 300
LONG = "x" * (LEAST + 1)


@pytest.fixture
async def pods(cluster: Cluster, some: Crew) -> AsyncIterator[Callable[[], Awaitable[set[str]]]]:
    """The names of all pods, of every kind. The spec is afterwards as it was, everywhere."""
    spec = copy.deepcopy(cluster.spec)
    (zoe,) = await some.people("zoe")
    channel = await some.group(zoe)
    yield lambda: _names(cluster)
    cluster.spec = spec
    cluster.apply()
    for pod in await cluster.ready():
        socket = await some.socket(zoe, pod)

        async def taken(socket: RawSocket = socket) -> bool:
            return bool((await socket.send(channel, key(), LONG))["type"] == "ack")

        assert await eventually(taken)


def key() -> str:
    return secrets.token_hex(8)


async def _names(cluster: Cluster) -> set[str]:
    return {name for kind in ("chat", "api", "worker") for name in await cluster.pods(kind)}


async def test_a_limit_holds_soon_and_without_new_pods(
    cluster: Cluster, some: Crew, pods: Callable[[], Awaitable[set[str]]]
) -> None:
    ann, ben = await some.people("ann", "ben")
    channel = await some.group(ann, ben)
    sockets = [await some.socket(person, pod) for person in (ann, ben) for pod in await cluster.ready()]
    some.keep_alive(*sockets)
    phone = await some.phone(ben)
    before = await pods()

    async def by_socket() -> bool:
        answers = [await socket.send(channel, key(), LONG) for socket in sockets]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert all((error["code"], error["limit"]) == ("invalid_field", LEAST) for error in refused)
        return len(refused) == len(sockets)

    async def by_http() -> bool:
        body = {
            "type": "send",
            "id": "1",
            "channel_id": channel,
            "client_msg_id": key(),
            "text": LONG,
        }
        answer = await ann.ask("POST", "/v1/frames", body)
        return answer.status_code == 422 and answer.json()["limit"] == LEAST

    assert not await by_socket() and not await by_http()
    cluster.spec["limits"] = {**cluster.spec["limits"], "textMaxBytes": LEAST}
    began = time.monotonic()
    cluster.apply()
    for look in (by_socket, by_http):
        assert await eventually(look, WITHIN_S - (time.monotonic() - began), step_s=0.05)

    assert (await some.send(phone, channel, "short")).acked_at is not None
    assert await pods() == before
    assert all(socket.closed_with is None for socket in sockets) and phone.moves == 0
    assert (await some.socket(ann)).of("welcome")[0]["limits"]["text_max_bytes"] == LEAST
