"""Whoever waits for a MongoDB that is away may give up at any moment, and leaves nothing locked behind."""

from __future__ import annotations

import asyncio

from support.mongo.scripted import scripted_server
from support.mongo.topology import replica_set
from support.wires import Wire, wire_to

from chatkernel.storage.mongo.client import CLOSE_S
from chatkernel.storage.mongo.store import MongoStore, open_mongo

WAITERS = 250
POLL_S = 0.5
"""The driver looks for a server once in so long: all waiters that came together wake up within some milliseconds."""


async def test_waits_that_are_given_up_as_they_wake_up_do_not_stop_all_others() -> None:
    async with scripted_server() as server, wire_to(server.port, Wire) as wire:
        store = await open_mongo(f"mongodb://127.0.0.1:{wire.port}/chat")
        try:
            wire.cut()
            waiting = [asyncio.create_task(store.heads(["local_g1"])) for _ in range(WAITERS)]
            await asyncio.sleep(POLL_S)
            for task in reversed(waiting):
                task.cancel()
                await asyncio.sleep(0.001)
            async with asyncio.timeout(10):
                ended = await asyncio.gather(*waiting, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in ended), set(map(repr, ended))
                wire.mend()
                assert await store.heads(["local_g1"]) == {}
        finally:
            await store.aclose()


async def ask_for_ever(store: MongoStore) -> None:
    while True:
        await store.heads(["local_g1"])


async def test_who_is_told_to_stop_stops_wherever_that_meets_it() -> None:
    async with scripted_server() as server:
        store = await open_mongo(f"mongodb://{server.host}/chat")
        try:
            for turns in range(200):
                task = asyncio.create_task(ask_for_ever(store))
                for _ in range(turns % 40):
                    await asyncio.sleep(0)
                task.cancel()
                ended, _ = await asyncio.wait([task], timeout=5)
                assert ended, turns
            async with asyncio.timeout(5):
                assert await store.heads(["local_g1"]) == {}
        finally:
            await store.aclose()


async def test_a_process_that_ends_does_not_wait_for_a_server_that_stands_still() -> None:
    async with replica_set() as replicas:
        store = await open_mongo(replicas.url)
        await store.ensure_schema()
        replicas.primary.freeze()
        try:
            async with asyncio.timeout(CLOSE_S + 2):
                await store.aclose()
        finally:
            replicas.primary.thaw()
