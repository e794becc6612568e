"""A send that the store held up for too long is told so, and not that its channel is busy."""

from __future__ import annotations

from typing import Any

import pytest
from support.desk import Desk

from chatkernel import appender
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Send


async def test_after_the_deadline_the_sender_hears_what_held_it_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await desk.group("ann", "bob")
    monkeypatch.setattr(appender, "DEADLINE_S", 0.0)
    insert, failures = desk.store.store.insert, [ChatError(Code.STORAGE_UNAVAILABLE, "locked")]

    async def fails_once(runs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await insert(runs)

    monkeypatch.setattr(desk.store.store, "insert", fails_once)
    with pytest.raises(ChatError) as caught:
        await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert caught.value.code is Code.STORAGE_UNAVAILABLE
    monkeypatch.undo()
    again = await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert again.seq == 2
