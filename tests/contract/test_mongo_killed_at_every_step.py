"""A process that is killed after any of the commands by which an event is stored: for everybody else either the event
is in the log, and all that follows from it holds, or it is not and nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channel_log import ChannelLog
from mongo_pods import pods

from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind, EventRange, PageQuery, Run
from chatkernel.storage.mongo.store import MongoStore

PEOPLE = ("u_ann", "u_bob", "u_eve")
Make = Callable[[ChannelLog, Event], Event]

EVENTS: dict[str, Make] = {
    "edit": lambda log, said: log.event(EventKind.EDIT, "u_ann", target_id=said.message_id, text="new"),
    "delete": lambda log, said: log.event(EventKind.DELETE, "u_ann", target_id=said.message_id),
    "reaction": lambda log, said: log.event(
        EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True
    ),
    "reaction off": lambda log, said: log.event(
        EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="y", on=False
    ),
    "rename": lambda log, _: log.event(EventKind.RENAME, "u_ann", name="New"),
    "join": lambda log, _: log.event(EventKind.JOIN, "u_ann", users=["u_eve"]),
    "leave": lambda log, _: log.event(EventKind.LEAVE, "u_bob", users=["u_bob"]),
    "ban": lambda log, _: log.event(EventKind.BAN, "u_ann", users=["u_bob", "u_eve"]),
    "role": lambda log, _: log.event(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.ADMIN),
    "owner": lambda log, _: log.event(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.OWNER),
}


async def prepared(store: MongoStore, channel_id: str) -> tuple[ChannelLog, Event]:
    log = ChannelLog(store, channel_id)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="edited secret")
    await log.append(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="y", on=True)
    await store._trail.settle()
    return log, said


async def seen(store: MongoStore, channel_id: str) -> dict[str, Any]:
    """What anybody can see of the channel, its name left out. Grants come first, as they do for who reads."""
    grants = [await store.grant(channel_id, user_id) for user_id in PEOPLE]
    of_people = [
        [grant for grant in (await store.grants_of([user_id]))[user_id] if grant.channel_id == channel_id]
        for user_id in PEOPLE
    ]
    channel = await store.channel(channel_id)
    page = await store.page(PageQuery(channel_id, 0, 50))
    [events] = await store.events([EventRange(channel_id, 0, 50)])
    members = await store.members(channel_id)
    parts = (
        grants,
        of_people,
        channel and (channel.name, channel.member_count),
        page.items,
        events,
        [(each.user_id, each.role, each.joined_seq) for each in members],
    )
    names = ("grants", "grants of people", "channel", "page", "sync", "members")
    return {name: repr(part).replace(channel_id, "CHANNEL") for name, part in zip(names, parts, strict=True)}


DAILY = {"delete", "ban"}
"""The others are of the same kind, and slow: each is tried as often as it has steps."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in DAILY else pytest.mark.slow) for each in EVENTS]
)
async def test_after_every_command(name: str) -> None:
    async with pods() as running:
        first, reader = await running.start(), await running.start()
        await prepared(first, "local_gnot")
        without = await seen(reader, "local_gnot")
        log, said = await prepared(first, "local_gdone")
        await first.insert([Run("local_gdone", (EVENTS[name](log, said),))])
        await first._trail.settle()
        done = await seen(await running.start(), "local_gdone")
        assert done != without
        steps = 0
        came = True
        while came:
            channel_id = f"local_g{steps}"
            log, said = await prepared(first, channel_id)
            event = EVENTS[name](log, said)
            run = Run(channel_id, (event,))
            came = await running.dies(lambda dying, run=run: dying.insert([run]), after=steps)  # type: ignore[misc]
            [stored] = await first.events([EventRange(channel_id, event.seq - 1, 1)])
            expected = done if stored else without
            for store in (await running.start(), reader):
                assert await seen(store, channel_id) == expected, f"killed after {steps} commands"
            steps += 1
        assert steps >= 4  # announced, stored, and applied by one command or more


async def test_a_group_that_was_just_made() -> None:
    async with pods() as running:
        first = await running.start()
        came, steps = True, 0
        while came:
            channel_id = f"local_gmade{steps}"
            log = ChannelLog(first, channel_id)
            event = log.event(EventKind.CREATED, "u_ann", users=["u_ann", "u_bob"], name="Team")
            info = ChannelInfo(channel_id, ChannelKind.GROUP, "Team", False)
            run = Run(channel_id, (event,), info)
            came = await running.dies(lambda dying, run=run: dying.insert([run]), after=steps)  # type: ignore[misc]
            members = await (await running.start()).members(channel_id)
            stored = channel_id in await first.heads([channel_id])
            assert [(m.user_id, m.role) for m in members] == (
                [("u_ann", Role.OWNER), ("u_bob", Role.MEMBER)] if stored else []
            ), f"killed after {steps} commands"
            steps += 1
        assert steps >= 5
