"""What is acknowledged on one device is in the list of conversations of every other at once: nothing to wait for."""

from __future__ import annotations

from typing import Any

from support.api_calls import Person
from support.crew import Crew


async def listed(person: Person, channel: str) -> dict[str, Any]:
    conversations = (await person.ok("GET", "/v1/channels"))["conversations"]
    return next(dict(found) for found in conversations if found["channel_id"] == channel)


async def test_the_other_device_lists_the_last_message_and_unread_right_after_the_ack(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    anns_laptop, bobs_laptop = await ann.another_device(), await bob.another_device()
    channel, newer = await some.group(ann, bob), await some.group(ann, bob)
    one, other = await some.cluster.ready()
    speaker, phone = await some.socket(ann, one), await some.socket(bob, other)
    for number in (1, 2, 3):
        ack = await speaker.send(channel, f"m{number}", f"text {number}")
        for person, unread in ((bobs_laptop, number), (anns_laptop, 0)):
            found = await listed(person, channel)
            last = found["last_message"]["event"]
            assert (last["text"], last["seq"], found["unread"]) == (f"text {number}", ack["seq"], unread)
    order = [c["channel_id"] for c in (await bobs_laptop.ok("GET", "/v1/channels"))["conversations"]]
    assert order == [channel, newer]
    assert (await phone.ask("read", channel_id=channel, seq=ack["seq"]))["type"] == "ack"
    assert (await listed(bobs_laptop, channel))["unread"] == 0
