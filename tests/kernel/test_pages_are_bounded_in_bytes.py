"""A page of long texts is cut where a connection's outbox could not take it, and says that there is more."""

from __future__ import annotations

from typing import Any

import pytest
from support.desk import Desk

from chatkernel.messaging import Actor
from chatkernel.paging import within_bytes
from chatkernel.protocol import Event, EventKind, History, Limits, Page, Send, Sync, encode_json
from chatkernel.storage.store import Store

ANN = Actor("ann", "d")
PAGE_BYTES = 10_000
LONG = 2_500
"""Three of such texts and what goes with them fit into a page."""


@pytest.fixture
async def room(store: Store) -> tuple[Desk, str, list[int]]:
    """A channel with `created` and nine long messages (seq 2 to 10), and the ids of the messages."""
    desk = Desk(store, Limits(outbox_max_bytes=4 * PAGE_BYTES))
    channel = await desk.group("ann", "bob")
    ids = []
    for n in range(9):
        ack = await desk.does("ann", Send("1", channel, f"k{n}", "é" * (LONG // 2)))
        ids.append(ack.message_id or 0)
    return desk, channel, ids


def test_at_least_one_event_fits() -> None:
    event = Event("c", 1, 1, EventKind.MESSAGE, "u", "k", 1, text="x" * 1000)
    size = len(encode_json(event))
    assert within_bytes([], 10) == 0
    assert within_bytes([event] * 3, 10) == 1
    assert within_bytes([event] * 3, 2 * size) == 2
    assert within_bytes([event] * 3, 2 * size + 1) == 2
    assert within_bytes([event] * 3, 3 * size) == 3


async def test_sync(room: tuple[Desk, str, list[int]]) -> None:
    desk, channel, _ = room
    pages = [page async for page in desk.messaging.reading.sync(ANN.user_id, Sync("1", {channel: 0}))]
    assert max(len(encode_json(page)) for page in pages) <= PAGE_BYTES + 500
    assert [event.seq for page in pages for event in page.events] == list(range(1, 11))
    assert [channel in page.heads for page in pages] == [False] * (len(pages) - 2) + [True, False]


@pytest.mark.parametrize(
    ("asked", "seqs", "more_before", "more_after"),
    [
        ({}, [8, 9, 10], True, False),
        ({"before": 6}, [3, 4, 5], True, True),
        ({"before": 3}, [1, 2], False, True),
        ({"after": 0}, [1, 2, 3, 4], False, True),
        ({"after": 8}, [9, 10], True, False),
        ({"around": 6}, [5, 6, 7], True, True),
        ({"around": 10}, [8, 9, 10], True, False),
        ({"at": 0}, [1, 2, 3, 4], False, True),
        ({"at": 1 << 43}, [8, 9, 10], True, False),
    ],
)
async def test_history(
    room: tuple[Desk, str, list[int]],
    asked: dict[str, Any],
    seqs: list[int],
    more_before: bool,
    more_after: bool,
) -> None:
    desk, channel, ids = room
    if "around" in asked:
        asked = {"around": ids[asked["around"] - 2]}
    page: Page = await desk.messaging.reading.history(ANN.user_id, History("1", channel, **asked))
    assert [item.event.seq for item in page.items] == seqs
    assert (page.more_before, page.more_after) == (more_before, more_after)
    assert len(encode_json(page)) <= PAGE_BYTES + 500
