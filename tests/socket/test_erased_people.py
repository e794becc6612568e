"""Who is erased is out at once; the others hear of it live, and at sync; old cursors are good after retention."""

from __future__ import annotations

from support.api_calls import PASSWORD
from support.cluster import eventually
from support.crew import Crew

from chatkernel.ids import now_ms
from chatkernel.message_ids import message_id_at


async def test_sockets_close_and_others_are_told(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    devices = [
        await some.socket(ann, one),
        await some.socket(await ann.another_device(), other, msgpack=True),
    ]
    friend = await some.socket(bob, other)
    sent = await devices[0].send(channel, "m", "the secret word")
    await friend.event(channel, "m")
    job = await ann.ok("POST", "/v1/me/erasure", {"password": PASSWORD})
    for device in devices:
        assert await device.closed() == 4003
    erased = await friend.event(channel, f"erase-{job['job_id']}")
    assert (erased["kind"], erased["users"]) == ("erase", [ann.id])
    told = [(event["kind"], event["users"]) for event in friend.events(channel) if "users" in event]
    assert told[-3:] == [("role", [bob.id]), ("leave", [ann.id]), ("erase", [ann.id])]
    page = (await bob.frame("history", channel_id=channel))["frames"][0]
    [item] = [item for item in page["items"] if item["event"]["message_id"] == sent["message_id"]]
    assert item["deleted"] and "text" not in item["event"]
    frames = (await bob.frame("sync", cursors={channel: 1}))["frames"]
    events = [event for frame in frames for event in frame.get("events", [])]
    assert [event["seq"] for event in events] == list(range(2, erased["seq"] + 1))
    assert not any("text" in event for event in events)

    async def done() -> bool:
        answer = await some.http.get(f"/v1/jobs/{job['job_id']}")
        return bool(answer.json()["progress"] > 0)

    await eventually(done, 10)


async def test_a_cursor_from_before_what_was_removed_goes_on_at_what_is_there(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    writer = await some.socket(ann)
    first = (await writer.send(channel, "m0", "old"))["message_id"]
    for number in range(1, 8):
        await writer.send(channel, f"m{number}", "old")
    assert len(await some.log_of(channel)) == 9
    async with some.cluster.store() as store:
        await store.expire(channel, message_id_at(now_ms() + 60_000), 6)
    assert [event.seq for event in await some.log_of(channel)] == [7, 8, 9]
    phone = await bob.another_device()
    for cursor in (0, 3, 6, 8, 9):
        device = await some.socket(phone, cursors={channel: cursor})
        pages = device.of("page")
        got = [event["seq"] for page in pages for event in page.get("events", [])]
        assert got == [seq for seq in (7, 8, 9) if seq > cursor]
        heads = [page["heads"][channel] for page in pages if channel in page.get("heads", {})]
        assert [(head["seq"], head["first_seq"]) for head in heads] == [(9, 7)]
        await device.close()
    page = (await bob.frame("history", channel_id=channel))["frames"][0]
    assert page["items"][0]["event"]["seq"] == 7 and not page.get("more_before")
    refused = await writer.ask("react", channel_id=channel, client_msg_id="r", message_id=first, emoji="x")
    assert refused["code"] == "message_not_found"
