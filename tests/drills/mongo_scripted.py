"""What happens to MongoDB and that no server here can be made to do but ours: a replica set of the scripted server is
killed as a whole, loses its primary, has it step down again and again, runs out of disk.

It keeps in memory what a command has stored, also when it is stopped: as a server does that journals before it acks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from support.mongo.chosen import with_database
from support.mongo.commands.call import Hook
from support.mongo.errors import ErrorCode
from support.mongo.faults import fails, held, slow, stepped_down_after, stored_then
from support.mongo.scripted import ScriptedServer
from support.mongo.topology import ReplicaSet, replica_set

from drills.breaking import FULL_S
from drills.store_fault import StoreFault, StoreUnderTest

FAULTS = {"kill": 5.0, "failover": 10.0, "step-down": 15.0, "full": FULL_S}
"""For how long each holds, in seconds."""
WRITES_WITHIN_S = 20.0
"""Somebody: a fault strikes in the middle of an insert."""
ELECTION_S = 2.0
"""Without a primary, at each step-down; then it is primary for as long."""
REPLICATES_S = 0.01
"""From when a write is stored until a majority has it: so there are always some in between."""
WRITES = ("insert", "update", "delete", "findAndModify")
GROWING = ("insert", "update", "findAndModify", "createIndexes")


@asynccontextmanager
async def scripted_mongo() -> AsyncIterator[StoreUnderTest]:
    async with replica_set() as replicas:
        for member in replicas.members:
            replicating(member)
        broken = _Broken(replicas)
        ways = (broken.killed, broken.failed_over, broken.stepping_down, broken.full)
        faults = [
            StoreFault(name, hold_s, way, stops=name == "kill")
            for (name, hold_s), way in zip(FAULTS.items(), ways, strict=True)
        ]
        url = with_database(replicas.url, "chat")
        yield StoreUnderTest("mongo-scripted", "the scripted server, a replica set of two", url, faults)


def replicating(member: ScriptedServer) -> None:
    for name in WRITES:
        member.on(name, slow(REPLICATES_S))


class _Broken:
    def __init__(self, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._former = replicas.primary
        """Which was primary last."""

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """All members at once, with an insert that is stored and not answered."""
        await self._with_an_insert_unanswered()
        for member in self._replicas.members:
            await member.stop()
        try:
            yield
        finally:
            for member in self._replicas.members:
                await member.start()

    @asynccontextmanager
    async def failed_over(self) -> AsyncIterator[None]:
        """The same of the primary alone; it comes back as a secondary."""
        await self._with_an_insert_unanswered()
        primary = self._replicas.primary
        await self._replicas.fail_over()
        try:
            yield
        finally:
            await primary.start()

    @asynccontextmanager
    async def stepping_down(self) -> AsyncIterator[None]:
        """In the middle of an insert, and by turns when it is stored and no majority has it yet."""
        await self._step_down(_half_stored)
        stepping = asyncio.create_task(self._go_on_stepping_down())
        try:
            yield
            if stepping.done():
                stepping.result()
        finally:
            stepping.cancel()
            await asyncio.wait([stepping])
            if self._replicas.election.primary is None:
                self._replicas.elect(self._replicas.members[0])

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """What would grow is refused; reads go on. Some real servers end instead: that is `kill`."""
        refuse = fails(ErrorCode.OUT_OF_DISK_SPACE, "No space left on device")
        hooked = [member.on(name, refuse) for member in self._replicas.members for name in GROWING]
        try:
            yield
        finally:
            for each in hooked:
                each.remove()
        if not any(each.seen for each in hooked):
            raise AssertionError("nothing was refused")

    async def _with_an_insert_unanswered(self) -> None:
        hooked = self._replicas.primary.on("insert", held(asyncio.Event()), times=1)
        async with asyncio.timeout(WRITES_WITHIN_S):
            await hooked.reached()

    async def _go_on_stepping_down(self) -> None:
        for way in itertools.cycle((stepped_down_after, _half_stored)):
            await asyncio.sleep(ELECTION_S)
            self._replicas.elect(next(each for each in self._replicas.members if each is not self._former))
            await asyncio.sleep(ELECTION_S)
            await self._step_down(way)

    async def _step_down(self, way: Callable[[Callable[[], None]], Hook]) -> None:
        """Until there is no primary."""
        gone = asyncio.Event()

        def step_down() -> None:
            self._replicas.without_primary()
            gone.set()

        self._former = self._replicas.primary
        hooked = self._former.on("insert", way(step_down))
        async with asyncio.timeout(WRITES_WITHIN_S):
            await gone.wait()
        hooked.remove()


def _half_stored(then: Callable[[], None]) -> Hook:
    return stored_then(then, documents=1)
