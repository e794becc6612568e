"""Reading back by HTTP: from a seq in either direction, from a time, and around a message."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.api_calls import Person, problem, sign_up

from chatkernel.ids import now_ms
from chatkernel.message_ids import LATEST_MS

MESSAGES = 9


class Room:
    """A group whose log is `created` (seq 1) and nine messages (seq 2 to 10)."""

    def __init__(self, owner: Person, channel: str, acks: list[dict[str, Any]]) -> None:
        self.owner, self.channel = owner, channel
        self.acks = {int(ack["seq"]): ack for ack in acks}

    async def page(self, **fields: Any) -> dict[str, Any]:
        page, ack = (await self.owner.frame("history", channel_id=self.channel, **fields))["frames"]
        assert (page["type"], page["kind"], ack["type"]) == ("page", "history", "ack")
        return dict(page)


@pytest.fixture
async def room(http: httpx.AsyncClient) -> Room:
    anna = await sign_up(http)
    made = await anna.ok("POST", "/v1/channels", {"kind": "group", "name": "team"})
    channel = str(made["channel_id"])
    acks = []
    for n in range(MESSAGES):
        answer = await anna.frame("send", channel_id=channel, client_msg_id=f"m{n}", text=f"text {n}")
        acks.append(answer["frames"][-1])
    return Room(anna, channel, acks)


def seqs(page: dict[str, Any]) -> list[int]:
    return [item["event"]["seq"] for item in page["items"]]


def more(page: dict[str, Any]) -> tuple[bool, bool]:
    return page.get("more_before", False), page.get("more_after", False)


@pytest.mark.parametrize(
    ("asked", "found", "before_and_after"),
    [
        ({}, [8, 9, 10], (True, False)),
        ({"before": 6}, [3, 4, 5], (True, True)),
        ({"before": 3}, [1, 2], (False, True)),
        ({"after": 0}, [1, 2, 3], (False, True)),
        ({"after": 4}, [5, 6, 7], (True, True)),
        ({"after": 8}, [9, 10], (True, False)),
    ],
)
async def test_before_and_after_a_seq(
    room: Room, asked: dict[str, int], found: list[int], before_and_after: tuple[bool, bool]
) -> None:
    page = await room.page(limit=3, **asked)
    assert (seqs(page), more(page)) == (found, before_and_after)


async def test_scrolling_back_meets_every_item_once(room: Room) -> None:
    page = await room.page(limit=4)
    found = seqs(page)
    while page.get("more_before"):
        page = await room.page(limit=4, before=found[0])
        found = seqs(page) + found
    assert found == list(range(1, MESSAGES + 2))


async def test_a_jump_to_a_message_brings_what_is_around_it(room: Room) -> None:
    page = await room.page(around=room.acks[6]["message_id"], limit=3)
    assert (seqs(page), more(page)) == ([5, 6, 7], (True, True))
    assert [item["event"]["text"] for item in page["items"]] == ["text 3", "text 4", "text 5"]
    last = await room.page(around=room.acks[10]["message_id"], limit=3)
    assert 10 in seqs(last) and more(last) == (True, False)


async def test_a_jump_to_a_time_brings_what_is_from_then_on(room: Room) -> None:
    at = room.acks[6]["created_at"]
    # Several messages may be of one millisecond: the first of them begins the page.
    first = min(seq for seq, ack in room.acks.items() if ack["created_at"] >= at)
    page = await room.page(at=at, limit=3)
    assert seqs(page) == list(range(first, first + 3)) and more(page) == (True, True)
    beginning = await room.page(at=0, limit=3)
    assert (seqs(beginning), more(beginning)) == ([1, 2, 3], (False, True))
    newest = await room.page(at=now_ms() + 60_000, limit=3)
    assert (seqs(newest), more(newest)) == ([8, 9, 10], (True, False))


async def test_a_jump_to_what_is_no_message_here_is_refused(room: Room) -> None:
    frame = {"type": "history", "id": "h", "channel_id": room.channel}
    nowhere = room.acks[10]["message_id"] + 1
    problem(
        await room.owner.ask("POST", "/v1/frames", {**frame, "around": nowhere}), 404, "message_not_found"
    )
    both = await room.owner.ask("POST", "/v1/frames", {**frame, "before": 5, "after": 2})
    assert problem(both, 422, "invalid_field")["field"] == "after"


async def test_a_time_that_no_message_can_have_is_refused(room: Room) -> None:
    assert seqs(await room.page(at=LATEST_MS, limit=3)) == [8, 9, 10]
    for at in (LATEST_MS + 1, (1 << 53) - 1):
        frame = {"type": "history", "id": "h", "channel_id": room.channel, "at": at}
        document = problem(await room.owner.ask("POST", "/v1/frames", frame), 422, "invalid_field")
        assert (document["field"], document["limit"]) == ("at", LATEST_MS)
