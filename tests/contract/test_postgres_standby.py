"""A synchronous standby that is away: what it has not got is neither acked nor shown, reads go on, and the server's
connections are not used up by commits that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from channel_log import ChannelLog
from sessions import key_of, one_message, opened
from support.postgres import Postgres, fresh_database, standby_of

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import EventRange, InsertOutcome
from chatkernel.storage.sql import SqlStore

pytestmark = pytest.mark.stores

POOL = 4
TIMEOUT_S = 0.8
WRITES = 30
"""More than the server takes connections."""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def standby(server: Postgres) -> Iterator[Postgres]:
    with standby_of(server) as started:
        yield started


@pytest.fixture
async def store(server: Postgres, standby: Postgres) -> AsyncIterator[SqlStore]:
    url = server.url(fresh_database(server), timeout_s=TIMEOUT_S, pool_size=POOL, pool_wait_s=1)
    async with opened(url) as made:
        yield made


async def eventually_stored(store: SqlStore, log: ChannelLog) -> None:
    """As the appender does it: asked for, and sent again."""
    run = one_message(log)
    async with asyncio.timeout(20):
        while True:
            try:
                if key_of(run) in await store.find_sent([key_of(run)]):
                    return
                if await store.insert([run]) == [InsertOutcome.STORED]:
                    return
            except ChatError as error:
                assert error.retryable
                await asyncio.sleep(0.05)


async def test_reads_go_on_and_few_commits_wait(server: Postgres, standby: Postgres, store: SqlStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    head = (await store.heads([log.channel_id]))[log.channel_id]
    standby.freeze()
    ended = asyncio.Event()
    took_s: list[float] = []

    async def reads() -> int:
        count = 0
        while not ended.is_set():
            assert (await store.heads([log.channel_id]))[log.channel_id] == head
            [events] = await store.events([EventRange(log.channel_id, 0, 10)])
            assert len(events) == 1 and len(await store.members(log.channel_id)) == 2
            count += 1
        return count

    async def writes() -> None:
        for _ in range(WRITES):
            began = time.monotonic()
            with pytest.raises(ChatError) as refused:
                await ChannelLog(store).create("u_ann")
            took_s.append(time.monotonic() - began)
            assert refused.value.retryable
            if refused.value.retry_after_s is not None:
                await asyncio.sleep(refused.value.retry_after_s / 10)

    reading = [asyncio.create_task(reads()) for _ in range(2)]
    await asyncio.gather(writes(), writes())
    ended.set()
    assert min(await asyncio.gather(*reading)) > WRITES
    assert 1 <= int(server.sql(WAITING)) <= POOL
    assert sorted(took_s)[len(took_s) // 2] < TIMEOUT_S / 4, "most are told at once"
    standby.thaw()
    await eventually_stored(store, log)
    head = (await store.heads([log.channel_id]))[log.channel_id]
    assert head.seq == 2 and int(server.sql(WAITING)) == 0


async def test_what_a_restarted_server_has_and_its_standby_has_not_is_not_shown(
    server: Postgres, standby: Postgres, store: SqlStore
) -> None:
    """The commit was waiting when the server was killed: it comes back with it, and a failover would take it away."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == 1
    run = one_message(log)
    standby.freeze()
    with pytest.raises(ChatError):
        await store.insert([run])
    server.kill()
    server.start()
    with pytest.raises(ChatError) as refused:
        await store.heads([log.channel_id])
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    with pytest.raises(ChatError):
        await store.events([EventRange(log.channel_id, 0, 10)])
    assert len(await store.members(log.channel_id)) == 2
    standby.thaw()
    log.seq -= 1
    await eventually_stored(store, log)
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == 2
