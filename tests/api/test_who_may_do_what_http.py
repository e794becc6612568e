"""By HTTP: replies, what people added later see, and who may not write or change."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.api_calls import Person, problem, sign_up


async def people(http: httpx.AsyncClient, number: int) -> list[Person]:
    return [await sign_up(http) for _ in range(number)]


async def group(owner: Person, *members: Person, **more: Any) -> str:
    body = {"kind": "group", "name": "team", "members": [m.id for m in members], **more}
    return str((await owner.ok("POST", "/v1/channels", body))["channel_id"])


async def say(person: Person, channel: str, key: str, **more: Any) -> dict[str, Any]:
    answer = await person.frame("send", channel_id=channel, client_msg_id=key, text=key, **more)
    return dict(answer["frames"][-1])


async def synced(person: Person, channel: str) -> list[dict[str, Any]]:
    answer = await person.frame("sync", cursors={channel: 0})
    return [event for frame in answer["frames"] for event in frame.get("events", [])]


async def read_back(person: Person, channel: str, **more: Any) -> list[dict[str, Any]]:
    page = (await person.frame("history", channel_id=channel, **more))["frames"][0]
    return [dict(item["event"]) for item in page["items"]]


async def test_a_reply_names_the_message_that_it_answers(http: httpx.AsyncClient) -> None:
    anna, ben = await people(http, 2)
    channel = await group(anna, ben)
    asked = await say(anna, channel, "question")
    answered = await say(ben, channel, "answer", reply_to=asked["message_id"])
    for events in (await synced(anna, channel), await read_back(anna, channel)):
        assert (events[-1]["seq"], events[-1]["reply_to"]) == (answered["seq"], asked["message_id"])
        assert "reply_to" not in events[-2]
    # The opening of the channel has an id, too, but is nothing that one can answer.
    for nothing in (answered["message_id"] + 1, events[0]["message_id"]):
        frame = {"type": "send", "id": "f", "channel_id": channel, "client_msg_id": "n", "text": "x"}
        refused = await ben.ask("POST", "/v1/frames", {**frame, "reply_to": nothing})
        assert problem(refused, 404, "message_not_found")["field"] == "reply_to"


@pytest.mark.parametrize(("from_start", "first_seen"), [(True, 1), (False, 3)])
async def test_who_is_added_later_sees_what_the_group_allows(
    http: httpx.AsyncClient, from_start: bool, first_seen: int
) -> None:
    anna, ben = await people(http, 2)
    channel = await group(anna, history_from_start=from_start)
    early = await say(anna, channel, "early")  # seq 2; the join is 3
    await anna.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": [ben.id]})
    await say(anna, channel, "late")
    expected = list(range(first_seen, 5))
    for events in (
        await synced(ben, channel),
        await read_back(ben, channel),
        await read_back(ben, channel, after=0),
        await read_back(ben, channel, at=0),
        await read_back(ben, channel, before=5),
    ):
        assert [event["seq"] for event in events] == expected
    # What one may not see one cannot jump to, answer, or react to either.
    target = early["message_id"]
    here = {"id": "f", "channel_id": channel}
    frames: list[dict[str, Any]] = [
        {"type": "history", **here, "around": target},
        {"type": "send", **here, "client_msg_id": "a", "text": "x", "reply_to": target},
        {"type": "react", **here, "client_msg_id": "b", "message_id": target, "emoji": "+1"},
    ]
    for frame in frames:
        answer = await ben.ask("POST", "/v1/frames", frame)
        if from_start:
            assert answer.status_code == 200, (frame, answer.text)
        else:
            problem(answer, 404, "message_not_found")


async def test_who_is_banned_can_neither_write_nor_read(http: httpx.AsyncClient) -> None:
    anna, ben = await people(http, 2)
    channel = await group(anna, ben)
    mine = await say(ben, channel, "before")
    await anna.ok("DELETE", f"/v1/channels/{channel}/members/{ben.id}?ban=true")
    here = {"id": "f", "channel_id": channel}
    change = {**here, "client_msg_id": "c", "message_id": mine["message_id"]}
    frames: list[dict[str, Any]] = [
        {"type": "send", **here, "client_msg_id": "s", "text": "x"},
        {"type": "edit", **change, "text": "x"},
        {"type": "delete", **change},
        {"type": "react", **change, "emoji": "+1"},
        {"type": "history", **here},
    ]
    for frame in frames:
        problem(await ben.ask("POST", "/v1/frames", frame), 403, "banned")
    assert [event["kind"] for event in await synced(anna, channel)] == ["created", "message", "ban"]


async def test_only_who_may_changes_a_message(http: httpx.AsyncClient) -> None:
    anna, ben, cleo, stranger = await people(http, 4)
    channel = await group(anna, ben, cleo)
    message = await say(ben, channel, "mine")
    change = {"id": "f", "channel_id": channel, "client_msg_id": "c", "message_id": message["message_id"]}
    edit = {"type": "edit", **change, "text": "theirs"}
    delete = {"type": "delete", **change}
    react = {"type": "react", **change, "emoji": "+1"}
    for frame in (edit, delete, react):
        problem(await stranger.ask("POST", "/v1/frames", frame), 404, "channel_not_found")
    problem(await cleo.ask("POST", "/v1/frames", edit), 403, "forbidden")
    problem(await cleo.ask("POST", "/v1/frames", delete), 403, "forbidden")
    # Nobody puts words into somebody's mouth, whatever the role; to take a message away is an admin's right.
    problem(await anna.ask("POST", "/v1/frames", edit), 403, "forbidden")
    assert [event["kind"] for event in await synced(anna, channel)] == ["created", "message"]
    await anna.ok("POST", "/v1/frames", delete)
    for person, frame in ((cleo, react), (ben, edit)):
        gone = {**frame, "client_msg_id": "after"}
        assert problem(await person.ask("POST", "/v1/frames", gone), 409, "conflict")["field"] == "message_id"
    assert [event["kind"] for event in await synced(anna, channel)] == ["created", "message", "delete"]
