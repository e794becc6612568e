"""Scripted servers in a thread of their own: for tests that have many loops, and for pods in other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from support.mongo.topology import ReplicaSet, replica_set

START_WITHIN_S = 10.0


@contextmanager
def threaded_replica_set() -> Iterator[ReplicaSet]:
    """A replica set that serves whoever connects. Its methods are for its own loop alone: call none from here."""
    started: Future[ReplicaSet] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with replica_set() as replicas:
            started.set_result(replicas)
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="scripted-mongo")
    thread.start()
    try:
        yield started.result(START_WITHIN_S)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
