"""Retention on MongoDB while a pod appends whose clock is far behind: what it appends looks due at once."""

from __future__ import annotations

import pytest
from channel_log import ChannelLog
from mongo_pods import pods

from chatkernel.message_ids import MAX_MESSAGE_ID
from chatkernel.protocol import EventKind
from chatkernel.storage.model import Head, Run
from chatkernel.storage.mongo import lifecycle


async def test_the_true_head_stays_though_it_came_after_the_look_at_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pods() as running:
        store = await running.start()
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await log.say_many("u_ann", 5)
        look = lifecycle.heads

        async def heads(*args: object) -> dict[str, Head]:
            found = await look(*args)  # type: ignore[arg-type]
            await store.insert([Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_bob", text="late"),))])
            return found

        monkeypatch.setattr(lifecycle, "heads", heads)
        await store.expire(log.channel_id, MAX_MESSAGE_ID, 100)
        monkeypatch.undo()
        assert (await store.heads([log.channel_id]))[log.channel_id].seq == log.seq
