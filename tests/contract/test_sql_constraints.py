"""What the SQL adapter's tables refuse by themselves. MongoDB cannot: there the appender's rule holds the log dense,
that an event stands only on a head that was seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from channel_log import ChannelLog

from chatkernel.protocol import EventKind
from chatkernel.storage.model import InsertOutcome, Run
from chatkernel.storage.open import Store, open_store

REFUSED = InsertOutcome.REFUSED


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/chat.db")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


async def test_a_log_never_has_a_hole(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    log.event(EventKind.MESSAGE, "u_ann", text="never stored")
    ahead = log.event(EventKind.MESSAGE, "u_ann", text="too far")
    assert await store.insert([Run(log.channel_id, (ahead,))]) == [REFUSED]
    nowhere = msgspec.structs.replace(ahead, channel_id="local_gnowhere", seq=1)
    assert await store.insert([Run("local_gnowhere", (nowhere,))]) == [REFUSED]


async def test_a_run_is_stored_whole_or_not_at_all(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "x", client_msg_id="taken")
    events = [
        log.event(EventKind.MESSAGE, "u_ann", text=name, client_msg_id=name) for name in ("new", "taken")
    ]
    assert await store.insert([Run(log.channel_id, tuple(events))]) == [REFUSED]
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == 2
