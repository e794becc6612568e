"""Mute, pin and archive are one's own: all of one's devices hear of them, and nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from support.crew import Crew


@pytest.mark.parametrize(
    ("change", "archived"),
    [({"muted_until": 1_900_000_000_000}, False), ({"pinned": True}, False), ({"archived": True}, True)],
)
async def test_the_other_devices_are_told_and_read_the_new_state(
    some: Crew, change: dict[str, Any], archived: bool
) -> None:
    ann, bob = await some.people("ann", "bob")
    laptop = await ann.another_device()
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    devices = [await some.socket(ann, one), await some.socket(laptop, other)]
    bobs = await some.socket(bob, other)
    await ann.ok("PATCH", f"/v1/channels/{channel}/me", change)
    for device in devices:
        notice = await device.until(lambda f: f["type"] == "notice")
        assert (notice["topic"], notice["channel_id"]) == ("conversation", channel)
    (line,) = (await laptop.ok("GET", f"/v1/channels?archived={str(archived).lower()}"))["conversations"]
    assert {name: line["prefs"][name] for name in change} == change
    # What Ann says next has reached Bob, so what she was told has not, or never will.
    await devices[1].send(channel, "k")
    await bobs.event(channel, "k")
    assert bobs.of("notice") == []
    (theirs,) = (await bob.ok("GET", "/v1/channels"))["conversations"]
    assert theirs["prefs"] == {"muted_until": 0, "pinned": False, "archived": False}
