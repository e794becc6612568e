"""A pod takes no more connections than it has room for, whatever tickets say; and who is refused may come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from support.cluster import Cluster, default_spec, eventually, running_cluster
from support.crew import Crew, crew
from support.rawsocket import RawSocket, seat

from chatkernel.errors import RESUMABLE, Close
from chatkernel.ids import now_ms
from chatkernel.settings import SecretFile
from chatkernel.tickets import TicketIssuer

CAPACITY = 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    spec = default_spec(chatPods={"replicas": 1, "connectionsPerPod": CAPACITY})
    with running_cluster(tmp_path_factory.mktemp("small") / "data", spec) as started:
        yield started


@pytest.fixture
async def few(small: Cluster) -> AsyncIterator[Crew]:
    async with crew(small, replicas=1) as made:
        yield made


async def test_a_full_pod_refuses_and_takes_again_when_there_is_room(few: Crew) -> None:
    (ann,) = await few.people("ann")
    taken = await seat(ann)
    statz = await few.cluster.statz(taken["pod"])
    secrets = Path(few.cluster.settings_of_any_pod()["secret_file"]).read_bytes()
    issuer = TicketIssuer(msgspec.json.decode(secrets, type=SecretFile), 30, now_ms)

    async def hello() -> tuple[RawSocket, str]:
        """With a ticket that discovery would not have given."""
        ticket, _ = issuer.issue(ann.id, ann.device_id, taken["pod"], statz["incarnation"])
        socket = await few.raw(taken["url"])
        return socket, (await socket.ask("hello", ticket=ticket))["type"]

    inside = [await hello() for _ in range(CAPACITY)]
    assert [kind for _, kind in inside] == ["ack"] * CAPACITY
    refused, kind = await hello()
    assert kind == "error"
    (error,) = refused.of("error")
    assert (error["code"], error["limit"], error["retryable"]) == ("no_capacity", CAPACITY, True)
    assert error["retry_after_ms"] > 0
    assert await refused.closed() == Close.NO_CAPACITY and Close.NO_CAPACITY in RESUMABLE
    await inside[0][0].close()

    async def room() -> bool:
        return int((await few.cluster.statz(taken["pod"]))["connections"]) < CAPACITY

    await eventually(room)
    assert (await hello())[1] == "ack"
