"""Who is in a channel and what they may do follows from the events alone."""

from __future__ import annotations

from channel_log import ChannelLog

from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import Absence, ChannelKind, Grant
from chatkernel.storage.open import Store


async def roles(store: Store, log: ChannelLog) -> dict[str, str]:
    return {member.user_id: member.role for member in await store.members(log.channel_id)}


async def test_a_group_is_its_creators(store: Store) -> None:
    log = ChannelLog(store)
    made = await log.create("u_cem", "u_ann", "u_bob", name="Team")
    assert await store.grant(log.channel_id, "u_ann") == Grant(
        "u_ann", log.channel_id, Role.MEMBER, 0, 1, ChannelKind.GROUP, 3, 1
    )
    assert await roles(store, log) == {"u_ann": "member", "u_bob": "member", "u_cem": "owner"}
    channel = await store.channel(log.channel_id)
    assert channel is not None
    assert (channel.name, channel.kind, channel.created_at) == ("Team", ChannelKind.GROUP, made.created_at)
    assert (channel.member_count, channel.head.seq, channel.history_from_start) == (3, 1, False)
    assert await store.channel("local_gnone") is None


async def test_the_two_of_a_pair_are_equal(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", kind=ChannelKind.DIRECT)
    assert await roles(store, log) == {"u_ann": "member", "u_bob": "member"}


async def test_strangers_have_no_grant(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    assert await store.grant(log.channel_id, "u_eve") is Absence.NOT_MEMBER
    assert await store.grant("local_gnone", "u_ann") is Absence.NOT_MEMBER
    assert await store.grants_of(["u_eve", "u_eve"]) == {"u_eve": []}


async def test_who_joins_sees_what_the_group_is_set_to(store: Store) -> None:
    for history_from_start, from_seq in ((False, 2), (True, 0)):
        log = ChannelLog(store)
        await log.create("u_ann", history_from_start=history_from_start)
        await log.say("u_ann", "before")
        await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
        grant = await store.grant(log.channel_id, "u_bob")
        assert isinstance(grant, Grant)
        assert (grant.from_seq, grant.members_seq, grant.member_count) == (from_seq, 3, 2)


async def test_joining_twice_changes_nothing(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.append(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.ADMIN)
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob", "u_cem", "u_cem"])
    grant = await store.grant(log.channel_id, "u_bob")
    assert isinstance(grant, Grant)
    assert (grant.role, grant.from_seq, grant.member_count) == (Role.ADMIN, 0, 3)


async def test_leaving_and_coming_back(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    assert await store.grant(log.channel_id, "u_bob") is Absence.NOT_MEMBER
    assert await store.grants_of(["u_bob"]) == {"u_bob": []}
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
    grant = await store.grant(log.channel_id, "u_bob")
    assert isinstance(grant, Grant)
    assert (grant.from_seq, grant.members_seq, grant.member_count, grant.joined_seq) == (2, 3, 2, 3)


async def test_a_ban_is_remembered_until_a_join(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.append(EventKind.BAN, "u_ann", users=["u_bob"])
    assert await store.grant(log.channel_id, "u_bob") is Absence.BANNED
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    assert await store.grant(log.channel_id, "u_bob") is Absence.NOT_MEMBER


async def test_handing_over_leaves_one_owner(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.append(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.OWNER)
    assert await roles(store, log) == {"u_ann": "admin", "u_bob": "owner"}


async def test_renaming(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", name="Old")
    await log.append(EventKind.RENAME, "u_ann", name="New")
    channel = await store.channel(log.channel_id)
    assert channel is not None
    assert channel.name == "New"


async def test_members_come_in_pages(store: Store) -> None:
    log = ChannelLog(store)
    everyone = [f"u_{number:03d}" for number in range(120)]
    await log.create(*everyone)
    first = await store.members(log.channel_id, limit=70)
    rest = await store.members(log.channel_id, after_user_id=first[-1].user_id, limit=70)
    assert [member.user_id for member in first + rest] == everyone
    assert (first[0].joined_seq, first[0].read_seq) == (1, 1)


async def test_grants_of_many_people(store: Store) -> None:
    a, b = ChannelLog(store), ChannelLog(store)
    await a.create("u_ann", "u_bob")
    await b.create("u_ann", "u_cem")
    found = await store.grants_of(["u_ann", "u_bob", "u_eve"])
    assert {user: sorted(grant.channel_id for grant in grants) for user, grants in found.items()} == {
        "u_ann": sorted([a.channel_id, b.channel_id]),
        "u_bob": [a.channel_id],
        "u_eve": [],
    }


async def test_ownership_that_nobody_takes_stays(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    await log.append(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.OWNER)
    assert await roles(store, log) == {"u_ann": "owner"}


async def test_who_is_where_and_how_many_there_are(store: Store) -> None:
    a, b = ChannelLog(store), ChannelLog(store)
    await a.create("u_ann", "u_bob")
    await b.create("u_ann", "u_cem", "u_dee")
    await b.append(EventKind.LEAVE, "u_dee", users=["u_dee"])
    assert await store.channels_of(["u_ann", "u_bob", "u_dee", "u_eve"]) == {
        "u_ann": {a.channel_id, b.channel_id},
        "u_bob": {a.channel_id},
        "u_dee": set(),
        "u_eve": set(),
    }
    assert await store.channels_of([]) == {}
    counted = await store.member_counts([a.channel_id, b.channel_id, "local_gnone", a.channel_id])
    assert counted == {a.channel_id: 2, b.channel_id: 2}
    assert await store.member_counts([]) == {}


async def test_channels_are_counted_per_person(store: Store) -> None:
    for members in (("u_ann", "u_bob"), ("u_ann",), ("u_bob", "u_ann")):
        await ChannelLog(store).create(*members)
    counts = await store.channel_counts(["u_ann", "u_bob", "u_ann", "u_eve"])
    assert {**{"u_eve": 0}, **counts} == {"u_ann": 3, "u_bob": 2, "u_eve": 0}
    assert await store.channel_counts([]) == {}
