"""The faults of MongoDB that only the scripted server has: writes fail meanwhile, and what was acked is there
afterwards."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import PyMongoError
from support.mongo.client import connected
from support.mongo.wire import Document

from drills.mongo_scripted import scripted_mongo
from drills.store_fault import StoreFault, StoreUnderTest

NAMES = ["kill", "failover", "step-down", "full"]


class Writer:
    """Inserts one document after the other, whatever becomes of them."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        majority = WriteConcern("majority", j=True)
        self._things = client.get_default_database().get_collection("things", write_concern=majority)
        self.acked: list[int] = []
        self.errors: list[PyMongoError] = []

    async def run(self) -> None:
        for number in itertools.count():
            try:
                await self._things.insert_one({"_id": number})
            except PyMongoError as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)
            else:
                self.acked.append(number)

    async def goes_on(self) -> None:
        """Until something that was begun from now on is acked."""
        known = len(self.acked)
        async with asyncio.timeout(10):
            while len(self.acked) < known + 2:
                await asyncio.sleep(0.01)

    async def fails(self) -> None:
        async with asyncio.timeout(10):
            while not self.errors:
                await asyncio.sleep(0.01)

    async def stored(self) -> set[int]:
        return {each["_id"] async for each in self._things.find()}


@asynccontextmanager
async def writing(store: StoreUnderTest) -> AsyncIterator[Writer]:
    async with connected(store.url, timeoutMS=300) as client:
        writer = Writer(client)
        task = asyncio.create_task(writer.run())
        try:
            await writer.goes_on()
            yield writer
        finally:
            task.cancel()


def fault_of(store: StoreUnderTest, name: str) -> StoreFault:
    return next(fault for fault in store.faults if fault.name == name)


@pytest.mark.parametrize("name", NAMES)
async def test_writes_fail_and_what_was_acked_stays(name: str) -> None:
    async with scripted_mongo() as store:
        assert [fault.name for fault in store.faults] == NAMES
        assert "scripted" in store.words
        async with writing(store) as writer:
            async with fault_of(store, name).broken():
                await (writer.goes_on() if name == "failover" else writer.fails())
            await writer.goes_on()
            assert await writer.stored() >= set(writer.acked)


async def test_it_tells_a_disk_that_is_full_from_one_that_was_lost() -> None:
    async with scripted_mongo() as store, writing(store) as writer:
        async with fault_of(store, "full").broken():
            await writer.fails()
        (first, *_) = writer.errors
        assert getattr(first, "code", None) == 14031


async def test_a_fault_that_met_no_write_is_no_fault() -> None:
    async with scripted_mongo() as store:
        with pytest.raises(AssertionError):
            async with fault_of(store, "full").broken():
                pass
