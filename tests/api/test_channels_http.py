"""Channels, members and conversations by HTTP, and everything that a socket can send."""

import asyncio

from support.api_calls import problem, sign_up
from support.valkey import eventually


async def group(owner, *members, **more):
    body = {"kind": "group", "name": "team", "members": [m.id for m in members], **more}
    return (await owner.ok("POST", "/v1/channels", body))["channel_id"]


def last(answer):
    return answer["frames"][-1]


async def test_opening_a_direct_channel_from_both_sides_at_once_gives_one(http):
    anna, ben = await sign_up(http), await sign_up(http)
    answers = await asyncio.gather(
        *(anna.ask("POST", "/v1/channels", {"kind": "direct", "user_id": ben.id}) for _ in range(4)),
        *(ben.ask("POST", "/v1/channels", {"kind": "direct", "user_id": anna.id}) for _ in range(4)),
    )
    assert {a.status_code for a in answers} <= {200, 201}
    assert 201 in [a.status_code for a in answers]
    assert len({a.json()["channel_id"] for a in answers}) == 1


async def test_a_direct_channel_needs_another_person(http):
    anna = await sign_up(http)
    alone = await anna.ask("POST", "/v1/channels", {"kind": "direct", "user_id": anna.id})
    assert problem(alone, 422, "invalid_field")["field"] == "user_id"
    nobody = await anna.ask("POST", "/v1/channels", {"kind": "direct", "user_id": "u_nobody"})
    problem(nobody, 404, "user_not_found")


async def test_a_group_lives(http):
    anna, ben, cleo, dan = [await sign_up(http) for _ in range(4)]
    channel = await group(anna, ben)
    path = f"/v1/channels/{channel}"
    assert (await ben.ok("GET", path))["name"] == "team"
    problem(await cleo.ask("GET", path), 404, "channel_not_found")
    problem(await ben.ask("PATCH", path, {"name": "mine"}), 403, "forbidden")
    await anna.ok("PATCH", path, {"name": "ours"})
    assert (await ben.ok("GET", path))["name"] == "ours"
    added = await anna.ok("POST", f"{path}/members", {"user_ids": [ben.id, cleo.id, dan.id]})
    assert added == {"added": [cleo.id, dan.id]}
    await anna.ok("PUT", f"{path}/members/{ben.id}/role", {"role": "admin"})
    await ben.ok("DELETE", f"{path}/members/{dan.id}?ban=true")
    problem(await dan.ask("GET", path), 403, "banned")
    await cleo.ok("DELETE", f"{path}/members/{cleo.id}")
    problem(await cleo.ask("GET", path), 404, "channel_not_found")
    problem(await anna.ask("DELETE", f"{path}/members/{anna.id}"), 409, "conflict")
    await anna.ok("PUT", f"{path}/members/{ben.id}/role", {"role": "owner"})
    roles = {m["user_id"]: m["role"] for m in (await ben.ok("GET", f"{path}/members"))["members"]}
    assert roles == {anna.id: "admin", ben.id: "owner"}


async def test_members_come_in_pages(http):
    people = [await sign_up(http) for _ in range(5)]
    channel = await group(people[0], *people[1:])
    seen, after = [], ""
    while True:
        page = await people[0].ok(
            "GET", f"/v1/channels/{channel}/members", params={"limit": 2, "after": after}
        )
        seen += [member["user_id"] for member in page["members"]]
        if "next_after" not in page:
            break
        after = page["next_after"]
    assert seen == sorted(person.id for person in people)


async def test_a_message_lives_by_http_alone(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna, ben)
    send = {"channel_id": channel, "client_msg_id": "m1", "text": "hello", "metadata": {"a": [1]}}
    ack = last(await anna.frame("send", **send))
    again = last(await anna.frame("send", **send))
    assert again == {**ack, "duplicate": True}
    target = {"channel_id": channel, "message_id": ack["message_id"]}
    await anna.frame("edit", client_msg_id="m2", text="hello!", **target)
    await ben.frame("react", client_msg_id="m3", emoji="👍", **target)
    page = (await ben.frame("history", channel_id=channel))["frames"][0]
    (item,) = [item for item in page["items"] if item["event"]["kind"] == "message"]
    assert item["event"]["text"] == "hello!" and item["reactions"] == {"👍": [ben.id]}
    await ben.frame("read", channel_id=channel, seq=ack["seq"])
    receipts = await anna.ok("GET", f"/v1/channels/{channel}/receipts")
    assert {entry[0]: entry[1] for entry in receipts["entries"]}[ben.id] == ack["seq"]
    synced = await ben.frame("sync", cursors={channel: 0})
    events = [event for frame in synced["frames"] for event in frame.get("events", [])]
    assert [event["kind"] for event in events] == ["created", "message", "edit", "reaction"]
    await anna.frame("delete", client_msg_id="m4", **target)
    await anna.frame("typing", channel_id=channel)
    await anna.frame("delivered", channel_id=channel, seq=1)

    async def ben_is_off_line() -> bool:
        # While presence was begun a moment ago, nobody can tell.
        watched = await anna.frame("presence.watch", user_ids=[ben.id])
        return bool(watched["frames"][0]["entries"][0]["state"] == "offline")

    await eventually(ben_is_off_line)


async def message_of(person, channel):
    """The one message of the channel as history shows it, and the events that a device without cursors gets."""
    page = (await person.frame("history", channel_id=channel))["frames"][0]
    (item,) = [item for item in page["items"] if item["event"]["kind"] == "message"]
    synced = await person.frame("sync", cursors={channel: 0})
    events = [event for frame in synced["frames"] for event in frame.get("events", [])]
    return item, {event["kind"]: event for event in events}


async def test_what_became_of_a_message_is_seen_in_history_and_by_sync(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna, ben)
    metadata = {"list": [1, 2.5, None, True, "ö"], "object": {"deep": {"er": []}}, "large": 2**60, "": ""}
    ack = last(
        await anna.frame("send", channel_id=channel, client_msg_id="m1", text="hello", metadata=metadata)
    )
    target = {"channel_id": channel, "message_id": ack["message_id"]}
    item, events = await message_of(ben, channel)
    assert item["event"]["metadata"] == events["message"]["metadata"] == metadata
    assert "edited_at" not in item and "reactions" not in item

    edit = last(await anna.frame("edit", client_msg_id="m2", text="hello!", **target))
    item, events = await message_of(ben, channel)
    assert (item["event"]["text"], item["edited_at"]) == ("hello!", edit["created_at"])
    assert item["event"]["metadata"] == metadata
    assert (events["edit"]["target_id"], events["edit"]["text"]) == (ack["message_id"], "hello!")

    for number, on in enumerate((True, False)):
        await ben.frame("react", client_msg_id=f"r{number}", emoji="+1", on=on, **target)
        item, events = await message_of(anna, channel)
        assert item.get("reactions") == ({"+1": [ben.id]} if on else None)
        assert events["reaction"].get("on") is on

    await anna.frame("delete", client_msg_id="m4", **target)
    item, events = await message_of(ben, channel)
    assert item["deleted"]
    for event in (item["event"], events["message"], events["edit"]):
        assert "text" not in event and "metadata" not in event
    assert events["delete"]["target_id"] == ack["message_id"]


async def test_a_refused_frame_is_a_problem_that_carries_the_error_frame(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna)
    frame = {"type": "send", "id": "f7", "channel_id": channel, "client_msg_id": "1", "text": "x"}
    document = problem(await ben.ask("POST", "/v1/frames", frame), 404, "channel_not_found")
    (error,) = document["frames"]
    assert (error["type"], error["id"], error["code"]) == ("error", "f7", "channel_not_found")
    empty = problem(await anna.ask("POST", "/v1/frames", {**frame, "text": ""}), 422, "invalid_field")
    assert empty["field"] == "text"
    long = problem(await anna.ask("POST", "/v1/frames", {**frame, "text": "x" * 16385}), 422, "invalid_field")
    assert (long["field"], long["limit"]) == ("text", 16384)
    for kind in ("hello", "ping", "nonsense"):
        problem(await anna.ask("POST", "/v1/frames", {"type": kind, "id": "1"}), 400, "unknown_type")


async def test_conversations_are_listed_newest_first_in_pages(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channels = [await group(anna, ben) for _ in range(5)]
    for number, channel in enumerate((channels[2], channels[0])):
        await ben.frame("send", channel_id=channel, client_msg_id=f"m{number}", text=f"hi {number}")
    first = await anna.ok("GET", "/v1/channels", params={"limit": 2})
    top, second = first["conversations"]
    assert [top["channel_id"], second["channel_id"]] == [channels[0], channels[2]]
    assert top["unread"] == 1 and top["last_message"]["event"]["text"] == "hi 1"
    seen, cursor = {top["channel_id"], second["channel_id"]}, first["next_cursor"]
    while cursor:
        page = await anna.ok("GET", "/v1/channels", params={"limit": 2, "cursor": cursor})
        seen |= {c["channel_id"] for c in page["conversations"]}
        cursor = page.get("next_cursor")
    assert seen == set(channels)
    problem(await anna.ask("GET", "/v1/channels?cursor=nonsense"), 422, "invalid_field")
    problem(await anna.ask("GET", "/v1/channels?limit=201"), 422, "invalid_field")


async def test_each_conversation_comes_with_its_people_and_its_last_message(http):
    anna, ben, cleo = [await sign_up(http) for _ in range(3)]
    direct = (await anna.ok("POST", "/v1/channels", {"kind": "direct", "user_id": ben.id}))["channel_id"]
    team, silent = await group(anna, ben, cleo), await group(anna)
    for number, (sender, channel) in enumerate(((ben, direct), (anna, team), (cleo, team))):
        await sender.frame("send", channel_id=channel, client_msg_id=f"m{number}", text=f"hi {number}")
    listed = {c["channel_id"]: c for c in (await anna.ok("GET", "/v1/channels"))["conversations"]}
    assert set(listed) == {direct, team, silent}
    people = {channel: (set(c["members"]) - {anna.id}, c["member_count"]) for channel, c in listed.items()}
    assert people == {direct: ({ben.id}, 2), team: ({ben.id, cleo.id}, 3), silent: (set(), 1)}
    said = {}
    for channel, line in listed.items():
        event = line["last_message"]["event"] if "last_message" in line else None
        said[channel] = event and (event["sender_id"], event["text"]), line["unread"]
    assert said == {
        direct: ((ben.id, "hi 0"), 1),
        team: ((cleo.id, "hi 2"), 1),
        silent: (None, 0),
    }


async def test_mute_pin_and_archive_are_ones_own(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna, ben)
    prefs = await anna.ok("PATCH", f"/v1/channels/{channel}/me", {"pinned": True, "muted_until": 10**15})
    assert prefs == {"muted_until": 10**15, "pinned": True, "archived": False}
    await anna.ok("PATCH", f"/v1/channels/{channel}/me", {"archived": True})
    assert (await anna.ok("GET", "/v1/channels"))["conversations"] == []
    (archived,) = (await anna.ok("GET", "/v1/channels?archived=true"))["conversations"]
    assert archived["prefs"] == {"muted_until": 10**15, "pinned": True, "archived": True}
    assert len((await ben.ok("GET", "/v1/channels"))["conversations"]) == 1
    stranger = await sign_up(http)
    missing = await stranger.ask("PATCH", f"/v1/channels/{channel}/me", {"pinned": True})
    problem(missing, 404, "channel_not_found")


async def test_a_group_has_at_most_five_hundred_members(http):
    anna = await sign_up(http)
    body = {"kind": "group", "name": "all", "members": [f"u_{n}" for n in range(500)]}
    document = problem(await anna.ask("POST", "/v1/channels", body), 409, "limit_reached")
    assert document["limit"] == 500
