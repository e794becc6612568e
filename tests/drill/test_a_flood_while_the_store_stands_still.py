"""The store stands still and people go on sending, reading and asking: pods stay small, answer everyone in time,
and go on by themselves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
from support.cluster import Cluster, default_spec, eventually, running_cluster
from support.crew import Crew, crew
from support.mongo.chosen import with_database
from support.mongo.java_server import JavaMongo, java_server
from support.rawsocket import RawSocket

from chatkernel.backlog import DEADLINE_S
from chatkernel.storage.model import EventRange
from chatkernel.storage.mongo.client import OPERATION_TIMEOUT_MS
from chatpod.endpoint import TURN_WITHIN_S

pytestmark = pytest.mark.stores

FROZEN_S = 20.0
MARGIN_S = 3.0
READ_WITHIN_S = TURN_WITHIN_S + OPERATION_TIMEOUT_MS / 1000 + MARGIN_S
"""It may wait for those before it, and then for the store."""
WAITING_MAX_BYTES = 1024 * 1024
AT_ONCE_MAX = 40
TEXT = "x" * 8_000
SENDS_PER_S = 60
GROWS_MAX_KIB = 48 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[JavaMongo]:
    with java_server() as started:
        yield started


@pytest.fixture(scope="module")
def cluster(server: JavaMongo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    url = with_database(server.url, f"flood_{secrets.token_hex(4)}")
    limits = {
        "sendsPerS": 1000,
        "sendsBurst": 2000,
        "waitingMaxBytes": WAITING_MAX_BYTES,
        "requestsAtOnceMax": AT_ONCE_MAX,
    }
    spec = default_spec(mongodb={"url": url}, limits=limits)
    with running_cluster(tmp_path_factory.mktemp("flood") / "data", spec) as started:
        yield started


@pytest.fixture
async def some(cluster: Cluster) -> AsyncIterator[Crew]:
    async with crew(cluster) as made:
        yield made


async def rss_kib(some: Crew) -> dict[str, int]:
    pods = [*(await some.cluster.pods("chat")).values(), *(await some.cluster.pods("api")).values()]
    stats = [(await some.http.get(f"http://127.0.0.1:{pod['port']}/statz")).json() for pod in pods]
    return {pod["name"]: said["rss_kib"] for pod, said in zip(pods, stats, strict=True)}


class Flood:
    """One device that sends, reads and sends again, and does not wait for answers."""

    def __init__(self, socket: RawSocket, channel: str, name: str) -> None:
        self.socket, self.channel, self.name = socket, channel, name
        self.asked: dict[str, float] = {}
        self.keys: dict[str, str] = {}
        self.reads: set[str] = set()
        self._numbers = count()

    async def go(self, for_s: float) -> None:
        ends = time.monotonic() + for_s
        while time.monotonic() < ends:
            key = f"{self.name}-{next(self._numbers)}"
            frame_id = await self.socket.say("send", channel_id=self.channel, client_msg_id=key, text=TEXT)
            self.keys[frame_id] = key
            self.asked[frame_id] = time.monotonic()
            read_id = await self.socket.say("history", channel_id=self.channel, limit=50)
            self.asked[read_id] = time.monotonic()
            self.reads.add(read_id)
            await asyncio.sleep(1 / SENDS_PER_S)

    async def answers(self) -> dict[str, dict[str, Any]]:
        """Of all that was asked, by id."""

        async def all_answered() -> dict[str, dict[str, Any]]:
            found = {f["id"]: f for f in self.socket.frames if f["type"] in ("ack", "error") and "id" in f}
            return found if self.asked.keys() <= found.keys() else {}

        return await eventually(all_answered, READ_WITHIN_S)


async def ask_over_http(
    http: httpx.AsyncClient, headers: dict[str, str], for_s: float
) -> list[httpx.Response]:
    tasks, ends = [], time.monotonic() + for_s
    while time.monotonic() < ends:
        tasks.append(asyncio.create_task(http.get("/v1/me/settings", headers=headers, timeout=30)))
        await asyncio.sleep(0.02)
    return await asyncio.gather(*tasks)


async def test_pods_stay_small_answer_in_time_and_go_on_by_themselves(some: Crew, server: JavaMongo) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    floods = [
        Flood(await some.socket(person, pod), channel, f"{person.username}-{pod}")
        for person in (ann, bob)
        for pod in (one, other)
    ]
    for flood in floods:
        await flood.go(1.0)
        await flood.answers()
        flood.asked.clear()
    pods = {kind: await some.cluster.pods(kind) for kind in ("chat", "api")}
    before = await rss_kib(some)
    server.freeze()
    try:
        http = asyncio.create_task(ask_over_http(some.http, ann.headers, FROZEN_S))
        await asyncio.gather(*(flood.go(FROZEN_S) for flood in floods))
        answers = [await flood.answers() for flood in floods]
        grown = {name: kib - before[name] for name, kib in (await rss_kib(some)).items()}
        over_http = await http
    finally:
        server.thaw()
    for flood, found in zip(floods, answers, strict=True):
        for frame_id, asked_at in flood.asked.items():
            answer = found[frame_id]
            assert answer["type"] == "error" and answer["retryable"], answer
            within_s = READ_WITHIN_S if frame_id in flood.reads else DEADLINE_S + MARGIN_S
            assert answer["_at"] - asked_at < within_s, answer
        busy = [found[frame_id] for frame_id in flood.asked if found[frame_id]["code"] == "busy"]
        assert busy and all(answer["retry_after_ms"] > 0 for answer in busy)
    assert max(grown.values()) < GROWS_MAX_KIB, grown
    busy_http = [answer for answer in over_http if answer.json().get("code") == "busy"]
    assert busy_http and all(int(answer.headers["retry-after"]) > 0 for answer in busy_http)
    assert {answer.status_code for answer in over_http} <= {200, 503}

    # Nothing was started again, and who comes again is heard.
    for flood in floods:
        assert flood.socket.closed_with is None
        key = flood.keys[next(reversed(flood.keys))]

        async def acked(flood: Flood = flood, key: str = key) -> bool:
            answer = await flood.socket.send(channel, key, TEXT, id=secrets.token_hex(4))
            return bool(answer["type"] == "ack")

        await eventually(acked, 15.0)
    assert {kind: await some.cluster.pods(kind) for kind in pods}.keys() == pods.keys()
    for kind, rows in pods.items():
        now = await some.cluster.pods(kind)
        assert {name: row["pid"] for name, row in now.items()} == {n: row["pid"] for n, row in rows.items()}
    async with some.cluster.store() as store:
        [events] = await store.events([EventRange(channel, 0, 100_000)])
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    keys = [(event.sender_id, event.client_msg_id) for event in events]
    assert len(set(keys)) == len(keys)
