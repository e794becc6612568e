"""A client whose disk is full goes on talking; what has to be kept is kept as soon as there is space."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from fakeserver import FakeCluster
from test_client_over_sockets import ROOM, Recorder, client_of, until

from chatclient.client import ChatClient
from chatclient.errors import Closed
from chatclient.http import Tokens
from chatclient.listener import Ended
from chatkernel.protocol import Send

OLD = Tokens("u_me", "d_me", "old", "r-old", 0)


class Disk:
    """A store of tokens on a disk that may be full: then not even its lock can be made, or only nothing written."""

    def __init__(self) -> None:
        self.kept: Tokens | None = OLD
        self.full = self.no_turns = False
        self.failed = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self._write(self.no_turns)
        yield

    def load(self) -> Tokens | None:
        return self.kept

    def keep(self, tokens: Tokens) -> None:
        self._write(self.full)
        self.kept = tokens

    def _write(self, fails: bool) -> None:
        if fails:
            self.failed += 1
            raise OSError(errno.ENOSPC, "No space left on device")


def with_store(fake: FakeCluster, disk: Disk, recorder: Recorder | None = None) -> ChatClient:
    return ChatClient(fake.url, tokens=OLD, store=disk, listener=recorder or Recorder(), rng=Random(3))


async def test_tokens_that_cannot_be_kept_are_used_and_kept_later(fake: FakeCluster) -> None:
    await fake.say(ROOM, "0")
    disk = Disk()
    disk.full = True
    async with with_store(fake, disk) as client:
        await client.connect(5)
        assert disk.failed and disk.kept == OLD
        assert (await asyncio.wait_for(client.send(ROOM, "1"), 5)).seq == 2
        assert await client.api.access_token() == "refreshed", "not the old ones, which are used up"
        disk.full = False
        await client.api.access_token()
        assert disk.kept is not None and disk.kept.refresh_token == "r-refreshed"


async def test_they_are_kept_at_the_latest_when_the_client_closes(fake: FakeCluster) -> None:
    disk = Disk()
    disk.full = True
    async with with_store(fake, disk) as client:
        await client.connect(5)
        disk.full = False
    assert disk.kept is not None and disk.kept.refresh_token == "r-refreshed"


async def test_a_store_that_cannot_be_opened_is_waited_for(fake: FakeCluster) -> None:
    """The refresh token is not used up before it is sure whose turn it is."""
    await fake.say(ROOM, "0")
    disk, recorder = Disk(), Recorder()
    async with with_store(fake, disk, recorder) as client:
        await client.connect(5)
        assert client.api.tokens is not None
        client.api.tokens = Tokens("u_me", "d_me", "stale", "r-stale", 0)
        disk.no_turns, disk.failed = True, 0
        for socket in list(fake.pods["chat-1"].sockets):
            socket.transport.abort()
        sending = asyncio.ensure_future(client.send(ROOM, "1"))
        await until(lambda: disk.failed >= 2)
        assert not sending.done()
        disk.no_turns = False
        assert (await asyncio.wait_for(sending, 5)).seq == 2
        assert not [state for state in recorder.states if isinstance(state, Ended)]


async def test_a_client_that_fails_unforeseen_says_so_and_ends_its_sends(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    client = client_of(fake, recorder)
    try:
        await client.connect(5)

        async def fail(_exclude: object, _region: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(client.api, "seats", fail)
        fake.pods["chat-1"].kill()
        with pytest.raises(Closed, match="a bug"):
            await asyncio.wait_for(client.send(ROOM, "1"), 5)
        assert isinstance(recorder.states[-1], Ended)
    finally:
        await client.close()


async def test_a_cache_that_cannot_be_written_costs_no_answer(fake: FakeCluster, tmp_path: Path) -> None:
    await fake.say(ROOM, "0")
    recorder = Recorder()
    async with client_of(fake, recorder, cache_path=tmp_path / "device.db") as client:
        await client.connect(5)
        assert client._cache is not None
        client._cache._db.execute("PRAGMA query_only = ON")  # every write fails, as on a full disk
        acks = await asyncio.wait_for(asyncio.gather(*(client.send(ROOM, str(n)) for n in range(3))), 5)
        assert [ack.seq for ack in acks] == [2, 3, 4]
        await until(lambda: recorder.texts == ["0", "1", "2"])
        sent = [frame for frame in fake.pods["chat-1"].received if isinstance(frame, Send)]
        assert len(sent) == 3 and client.reconnects == 0
        assert len((await client.history(ROOM, limit=10)).items) == 4
        client._cache._db.execute("PRAGMA query_only = OFF")
    async with client_of(fake, Recorder(), cache_path=tmp_path / "device.db") as client:
        await client.connect(5)
        assert client.cursors == {ROOM: 4}
        view = await client.history(ROOM, limit=10)
        assert [item.event.seq for item in view.items] == [1, 2, 3, 4]
