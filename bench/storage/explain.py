"""The plans of the calls that are measured, as these calls are really made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from bench.storage.calls import CALLS, Call, Reading, reading
from bench.storage.shape import Shape
from bench.storage.sqlplans import Explained, PostgresWatch, SqliteWatch, listening
from bench.storage.timing import appender_of, send_everywhere
from chatkernel.ids import new_client_msg_id
from chatkernel.storage.model import SendKey
from chatkernel.storage.open import open_store

TIMES = 7
"""Each call: PostgreSQL makes a plan for any parameters from the sixth time on, if it is no dearer."""
TOGETHER = 8


class Watch(Protocol):
    def taken(self) -> list[Explained]: ...


@contextmanager
def watching(url: str) -> Iterator[Watch]:
    """Connections of stores that are opened within. Those of PostgreSQL need AUTO_EXPLAIN in the database."""
    scheme, _, rest = url.partition("://")
    with ExitStack() as stack:
        if scheme == "sqlite":
            sqlite = SqliteWatch(Path(rest[1:]))
            stack.enter_context(listening(sqlite))
            yield sqlite
        elif scheme == "postgresql":
            postgres = PostgresWatch()
            stack.enter_context(listening(postgres))
            yield postgres
        else:
            from bench.storage.mongoplans import MongoWatch

            mongo = MongoWatch(url)
            stack.callback(mongo.stop)
            yield mongo


async def explained(url: str, shape: Shape, times: int = TIMES) -> dict[str, list[Explained]]:
    """Each call's statements with their plans; a statement that was sent before stands at the first call."""
    found: dict[str, list[Explained]] = {}
    with watching(url) as watch:
        store = await open_store(url)
        try:
            at = await reading(store, shape)
            await _settle(watch)
            for name, make in {**CALLS, "resend": _resend}.items():
                for _ in range(times):
                    call = await make(at)
                    await call()
                found[name] = await _settle(watch)
            for count in (1, TOGETHER):
                name = f"append_{count}"
                for _ in range(times):
                    await _append(at, count)
                found[name] = await _settle(watch)
        finally:
            await store.aclose()
    return found


async def _settle(watch: Watch) -> list[Explained]:
    """The server's words may still be on their way to whoever listens."""
    await asyncio.sleep(0)
    return await asyncio.to_thread(watch.taken)


async def _resend(at: Reading) -> Call:
    """Whether something was stored before."""
    channel = at.channel()
    key = SendKey(channel.channel_id, channel.members[0], new_client_msg_id())
    return lambda: at.store.find_sent([key])


async def _append(at: Reading, count: int) -> None:
    appender = appender_of(at.store)
    await send_everywhere(appender, at, [at.channel() for _ in range(count)])
    await appender.aclose()


def faults(found: dict[str, list[Explained]]) -> list[str]:
    """What is wrong, in words."""
    return [
        f"{name}: {', '.join(plan.faults)}: {plan.statement}\n{plan.steps}"
        for name, plans in found.items()
        for plan in plans
        if plan.faults
    ]
