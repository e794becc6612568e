"""Several processes on one scripted replica set, any of which can die at any of its commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from support.mongo.commands.call import Call, Hook
from support.mongo.scripted import Connection, Hooked
from support.mongo.topology import ReplicaSet, replica_set
from support.mongo.wire import Document

from chatkernel.storage.mongo.store import MongoStore, open_mongo

Work = Callable[[MongoStore], Coroutine[Any, Any, Any]]


class Pods:
    """Clients of one deployment, each as in a process of its own."""

    def __init__(self, deployment: ReplicaSet, stack: AsyncExitStack) -> None:
        self.deployment, self._stack = deployment, stack

    async def start(self) -> MongoStore:
        store = await open_mongo(self.deployment.url)
        self._stack.push_async_callback(store.aclose)
        return store

    def on(self, name: str, hook: Hook, *, times: int | None = None) -> Hooked:
        """Of the primary, as long as there is no failover."""
        return self.deployment.primary.on(name, hook, times=times)

    def forget(self) -> None:
        for server in self.deployment.members:
            server.commands.clear()

    def commands(self) -> list[tuple[str, str]]:
        """Name and collection of what came to the primary since `forget`."""
        names = ((next(iter(each)), each) for each in self.deployment.primary.commands)
        return [(name, str(each[name])) for name, each in names if name not in ("getMore", "killCursors")]

    async def dies(self, work: Work, after: int | str) -> bool:
        """A process of its own is killed when that many of the work's commands were executed, or the one of that
        name: nothing of it goes further, the last answer neither. Whether it came so far."""
        store = await open_mongo(f"{self.deployment.url}&maxPoolSize=1")
        self._stack.push_async_callback(store.aclose)
        mine = await self._connection_of(store)
        executed = 0
        over = after == 0
        stuck = asyncio.Event()

        async def hook(call: Call) -> Document:
            nonlocal executed, over
            if call.connection is not mine:
                return await call.proceed()
            if not over:
                executed += 1
                over = after in (executed, call.name)
                answer = await call.proceed()
                if not over:
                    return answer
            stuck.set()
            await asyncio.Event().wait()
            raise AssertionError

        hooked = self.on("*", hook)
        dying = asyncio.create_task(work(store))
        waiting = asyncio.create_task(stuck.wait())
        await asyncio.wait([dying, waiting], return_when=asyncio.FIRST_COMPLETED)
        came = stuck.is_set()
        hooked.remove()
        for task in (dying, waiting):
            task.cancel()
        await asyncio.wait([dying, waiting])
        return came

    async def _connection_of(self, store: MongoStore) -> Connection:
        """The one connection of a store that has no other."""
        found: list[Connection] = []
        name = f"u_{id(store)}"

        async def hook(call: Call) -> Document:
            if name in str(call.command):
                found.append(call.connection)
            return await call.proceed()

        hooked = self.on("find", hook)
        await store.users([name])
        hooked.remove()
        return found[0]


@asynccontextmanager
async def pods() -> AsyncIterator[Pods]:
    async with replica_set() as deployment, AsyncExitStack() as stack:
        running = Pods(deployment, stack)
        first = await running.start()
        await first.ensure_schema()
        yield running


def about(call: Call, collection: str) -> bool:
    return call.command.get(call.name) == collection
