"""A send that the store held up for too long is told so, and not that its channel is busy."""

from __future__ import annotations

from typing import Any

import pytest
from support.desk import Desk

from chatkernel import backlog
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Send


async def test_after_the_deadline_the_sender_hears_what_held_it_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await desk.group("ann", "bob")
    monkeypatch.setattr(backlog, "DEADLINE_S", 0.1)

    async def fails(runs: Any) -> Any:
        raise ChatError(Code.STORAGE_UNAVAILABLE, "locked")

    monkeypatch.setattr(desk.store.store, "insert", fails)
    with pytest.raises(ChatError) as caught:
        await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert caught.value.code is Code.STORAGE_UNAVAILABLE
    monkeypatch.undo()
    again = await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert again.seq == 2
