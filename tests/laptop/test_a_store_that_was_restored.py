"""The rehearsal of docs/backup.md: a backup taken under load, more said after it, the store put back to it, and the
cluster started again. Nothing lies afterwards: not cursors, not what clients keep, not lists, not the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from support.chatctl import Chatctl
from support.cluster import Cluster, default_spec, eventually
from support.crew import Crew, Phone, crew
from support.valkey import free_port

from chatclient.listener import Ended

pytestmark = pytest.mark.slow

Put = Callable[[], None]


class SqliteStore:
    """By `chatctl backup` and `chatctl restore`."""

    def __init__(self, folder: Path) -> None:
        self._copy = folder / "copy.db"
        self._chatctl = Chatctl(folder / "data")
        self.environ: dict[str, str] = {}
        self.spec: dict[str, Any] = {}

    def back_up(self) -> None:
        done = self._chatctl.here("backup", str(self._copy), "--json")
        assert done.returncode == 0, done.stderr

    def put_back(self) -> None:
        done = self._chatctl.here("restore", str(self._copy))
        assert done.returncode == 0, done.stderr


class MongoStoreOf:
    """A dump over the wire, of one collection after the other while others write: the logs last, so that everything
    else is behind them, as after the death of a process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: dict[str, list[dict[str, Any]]] = {}
        self.environ = {"THE_STORE": url}
        self.spec = {"mongodb": {"urlFrom": {"env": "THE_STORE"}}}

    def back_up(self) -> None:
        with MongoClient[dict[str, Any]](self._url) as client:
            database = client.get_default_database()
            names = sorted(database.list_collection_names(), key=lambda name: name == "events")
            assert "events" in names
            self._kept = {name: list(database[name].find({})) for name in names}

    def put_back(self) -> None:
        with MongoClient[dict[str, Any]](self._url) as client:
            database = client.get_default_database()
            for name in database.list_collection_names():
                database.drop_collection(name)
            for name, documents in self._kept.items():
                if documents:
                    database[name].insert_many(documents)


@pytest.fixture(params=["sqlite", "mongo"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteStore | MongoStoreOf:
    if request.param == "mongo":
        return MongoStoreOf(request.getfixturevalue("mongo_url"))
    return SqliteStore(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, store: SqliteStore | MongoStoreOf) -> Any:
    made = Cluster(tmp_path / "data", default_spec(**store.spec), {})
    made.port = free_port()
    made.start(store.environ)
    yield made
    made.stop()


async def test_a_store_that_was_put_back_to_a_backup_tells_no_lies(
    cluster: Cluster, store: SqliteStore | MongoStoreOf, tmp_path: Path
) -> None:
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        phone = await some.phone(ann, cache_path=tmp_path / "ann.db")
        other = await some.phone(bob, cache_path=tmp_path / "bob.db")
        away = await some.phone(bob, cache_path=tmp_path / "away.db")
        first = await some.send(phone, channel, "first")
        await some.settled(channel)
        tokens = away.client.api.tokens
        await away.client.close()
        some.phones.remove(away)

        at_backup = await _back_up_under_load(some, phone, channel, store)
        carol = (await some.people("carol"))[0]
        await ann.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": [carol.id]})
        stranger = await some.phone(carol, cache_path=tmp_path / "carol.db")
        await phone.client.edit(channel, first.message_id, "never said")
        await phone.client.react(channel, first.message_id, "👎")
        later = await some.group(ann, bob)
        for n in range(10):
            await some.send(phone, channel, f"lost {n}")
            await some.send(phone, later, f"lost {n}")
        assert await some.settled(channel) and await some.settled(later)
        before = len(await some.log_of(channel))
        over = asyncio.create_task(_until_over(stranger))

        await asyncio.to_thread(cluster.stop)
        await asyncio.to_thread(store.put_back)
        await asyncio.to_thread(cluster.start, store.environ)

        log = await some.log_of(channel)
        assert at_backup <= len(log) < before and [event.seq for event in log] == [*range(1, len(log) + 1)]
        await _found_again(some, [phone, other], channel, len(log))
        assert later not in phone.client.cursors and later not in other.client.cursors
        # Of whoever signed up after the backup nobody knows: their session is over, and they are told so.
        assert await asyncio.wait_for(over, 20)
        some.phones.remove(stranger)
        await stranger.client.close()

        some.sent.clear()
        for each in (phone, other):
            each.recorder.history.seen.clear()
            each.recorder.history.baselines = dict(each.client.cursors)
        for n in range(5):
            sent = await some.send(phone, channel, f"said again {n}")
            assert sent.seq == len(log) + 1 + n
        again = await some.phone(bob, cache_path=tmp_path / "away.db", tokens=tokens)
        # What another pod has just acked may come live, a moment after the sync.
        await eventually(lambda: _has(again, channel, [*range(3, len(log) + 6)]))
        again.recorder.history.baselines = {channel: 2}
        assert await some.settled(channel)
        verdict = await some.judge([channel])
        assert verdict.kept and verdict.sent == 5, verdict
        await _all_say_the_same(some, [phone, other, again], channel)


async def _back_up_under_load(
    some: Crew, phone: Phone, channel: str, store: SqliteStore | MongoStoreOf
) -> int:
    """How many events there were when it began. All that was acked before is in it."""
    stop = asyncio.Event()

    async def talk() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await some.send(phone, channel, f"while it was copied {number}")

    talking = [asyncio.create_task(talk()) for _ in range(4)]
    await eventually(lambda: _is_longer(some, channel, 50))
    began = len(await some.log_of(channel))
    await asyncio.to_thread(store.back_up)
    stop.set()
    await asyncio.gather(*talking)
    return began


async def _has(phone: Phone, channel: str, seqs: list[int]) -> bool:
    return phone.had(channel) == seqs


async def _is_longer(some: Crew, channel: str, than: int) -> bool:
    return len(await some.log_of(channel)) > than


async def _found_again(some: Crew, phones: list[Phone], channel: str, head: int) -> None:
    """All are connected again, and stand at the end of the log that there is now."""

    async def look() -> bool:
        return all(each.client.in_sync and each.client.cursors.get(channel) == head for each in phones)

    await eventually(look, 20)


async def _until_over(phone: Phone) -> str:
    """Why a session ended for good."""
    async for change in phone.client.changes():
        if isinstance(change, Ended):
            return change.reason
    return ""


async def _all_say_the_same(some: Crew, phones: list[Phone], channel: str) -> None:
    """History, whether kept by the client or asked for, the list of conversations, and what is unread."""
    log = await some.log_of(channel)
    texts = [event.text for event in log if event.text is not None]
    for phone in phones:
        view = await phone.client.history(channel, limit=200)
        assert [item.event.text for item in view.items if item.event.text is not None] == texts[
            -len(view.items) :
        ]
        first = (await phone.client.history(channel, limit=5, after=1)).items[0]
        assert (first.event.text, first.edited_at, first.reactions) == ("first", None, None)

        async def listed(owner: Any = phone.owner) -> bool:
            page = await owner.ok("GET", "/v1/channels")
            (line,) = [each for each in page["conversations"] if each["channel_id"] == channel]
            return bool(line["last_message"]["event"]["text"] == texts[-1] and line["seq"] == log[-1].seq)

        await eventually(listed, 10)
