"""While somebody else holds the database's lock, sends wait; none is acked that is not stored, and none is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.crew import Crew

from chatkernel.backlog import DEADLINE_S


@contextmanager
def locked(some: Crew) -> Iterator[None]:
    """As a backup does it, or a curious person with a shell."""
    url = str(some.cluster.settings_of_any_pod()["store_url"])
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=20)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def test_a_short_lock_costs_time_only_and_reads_go_on(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    anns, bobs = await some.socket(ann, one), await some.socket(bob, other)
    await anns.send(channel, "before")
    with locked(some):
        ids = [
            await anns.say("send", channel_id=channel, client_msg_id=f"k{n}", text="hello") for n in range(20)
        ]
        assert (await bobs.ask("history", channel_id=channel))["type"] == "ack"
        assert not [frame for frame in anns.of("ack") if frame["id"] in ids]
    answers = await asyncio.gather(*(anns.answer(frame_id) for frame_id in ids))
    assert [(a["type"], a["seq"]) for a in answers] == [("ack", 3 + n) for n in range(20)]
    await bobs.event(channel, "k19")


async def test_a_long_lock_is_a_retryable_error_and_the_resend_is_stored_once(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    pod = (await some.cluster.ready())[0]
    anns = await some.socket(ann, pod)
    await anns.send(channel, "before")
    some.keep_alive(anns)
    began = time.monotonic()
    with locked(some):
        refused = await anns.send(channel, "k", within_s=3 * DEADLINE_S)
    assert time.monotonic() - began >= DEADLINE_S - 1
    assert (refused["type"], refused["code"]) == ("error", "storage_unavailable")
    assert refused["retryable"] and "Traceback" not in refused["detail"]
    again = await anns.send(channel, "k")
    assert (again["type"], again["seq"]) == ("ack", 3)
    assert [e.client_msg_id for e in await some.log_of(channel)][1:] == ["before", "k"]
