"""Others decide at the same PostgreSQL at the same time: what was read is still true when it has been acted upon."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from sessions import blocked, other_session
from sqlalchemy import func, select
from support.postgres import Postgres

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Device, FriendAction, FriendState, RefreshOutcome, User
from chatkernel.storage.sql import SqlStore
from chatkernel.storage.sql.schema import refresh_tokens

pytestmark = pytest.mark.stores


def phone(number: int, seen_at: int = 1) -> Device:
    return Device(f"d_{number}", "u_ann", "phone", seen_at, seen_at, None)


async def test_who_decides_by_what_was_read_is_alone_with_it(sql: SqlStore) -> None:
    """Two hundred at once, from a pool of eight: each sees what the one before it wrote, and none has to be undone
    because of somebody else's."""
    people = [f"u_{number}" for number in range(40)]
    await asyncio.gather(*(sql.create_user(User(u, u, u, 1), "") for u in people))
    await asyncio.gather(*(sql.put_settings(u, {"n": n}, None) for u in people[:5] for n in range(10)))
    assert [(await sql.settings(u)).version for u in people[:5]] == [10] * 5
    won = await asyncio.gather(*(sql.put_settings("u_0", {"n": n}, 10) for n in range(10)))
    assert len([result for result in won if result is not None]) == 1

    asked = await asyncio.gather(
        *(
            sql.friend_action(a, b, FriendAction.REQUEST, 5)
            for n, a in enumerate(people)
            for b in (people[n - 1], people[(n + 1) % len(people)])
        )
    )
    assert (
        sorted(change.state for change in asked if change.state)
        == [FriendState.FRIENDS] * 40 + [FriendState.REQUESTED] * 40
    )
    await sql.add_device(Device("d_1", "u_0", "phone", 1, 1, None))
    await sql.put_refresh("old", "u_0", "d_1", 1000)
    rotated = await asyncio.gather(*(sql.rotate_refresh("old", f"new{n}", 5, 1000) for n in range(10)))
    assert [result.outcome for result in rotated].count(RefreshOutcome.ROTATED) == 10
    # Nobody has used a successor, so each gave up the one before it: one is left.
    assert (
        await sql._db.read(
            lambda conn: conn.execute(select(func.count()).where(refresh_tokens.c.used_at.is_(None))).scalar()
        )
        == 1
    )

    named = [User(f"u_named{n}", "same", "same", 1) for n in range(12)]
    made = await asyncio.gather(
        *(sql.user_of_subject("issuer", str(n // 2), user) for n, user in enumerate(named))
    )
    assert sorted(user.username for user in made) == sorted(2 * ["same", *(f"same-{n}" for n in range(2, 7))])


async def test_no_device_of_a_password_that_was_replaced_comes_after_it(
    sql: SqlStore, postgres: Postgres
) -> None:
    await sql.create_user(User("u_ann", "ann", "Ann", 1), "old")
    async with other_session(postgres, sql) as other, other.transaction():
        await other.execute("LOCK TABLE devices IN EXCLUSIVE MODE")
        login = asyncio.create_task(sql.add_device(phone(1), None, "old"))
        await blocked(other)
        changing = asyncio.create_task(sql.set_password("u_ann", "new", "old"))
        await blocked(other, at_least=2)
    assert await changing
    assert login.done()
    with pytest.raises(ChatError) as refused:
        await sql.add_device(phone(2), None, "old")
    assert refused.value.code is Code.WRONG_CREDENTIALS


async def test_of_several_who_replace_a_password_one_does(sql: SqlStore) -> None:
    await sql.create_user(User("u_ann", "ann", "Ann", 1), "old")
    done = await asyncio.gather(*(sql.set_password("u_ann", f"new{n}", "old") for n in range(10)))
    assert done.count(True) == 1


async def test_a_token_that_is_renewed_while_its_device_logs_in_again_ends_there(
    sql: SqlStore, postgres: Postgres
) -> None:
    await sql.create_user(User("u_ann", "ann", "Ann", 1), "")
    await sql.add_device(phone(1))
    await sql.put_refresh("old", "u_ann", "d_1", 1000)
    async with other_session(postgres, sql) as other, other.transaction():
        await other.execute("SELECT 1 FROM refresh_tokens FOR UPDATE")
        renewing = asyncio.create_task(sql.rotate_refresh("old", "next", 5, 1000))
        await blocked(other)
        login = asyncio.create_task(sql.add_device(phone(1)))
        await blocked(other, at_least=2)
    await asyncio.gather(renewing, login)
    assert (await sql.rotate_refresh("next", "later", 6, 1000)).outcome is RefreshOutcome.UNKNOWN


async def test_a_name_that_is_found_free_is_not_given_to_somebody_else(
    sql: SqlStore, postgres: Postgres
) -> None:
    await sql.create_user(User("u_1", "ann-2", "Ann", 1), "")
    async with other_session(postgres, sql) as other, other.transaction():
        await other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        signing_up = asyncio.create_task(sql.create_user(User("u_2", "ann-2-2", "Ann", 1), ""))
        await blocked(other)
        first_seen = asyncio.create_task(sql.user_of_subject("issuer", "s", User("u_3", "Ann-2", "Ann", 1)))
        await blocked(other, at_least=2)
    await signing_up
    assert (await first_seen).username == "Ann-2-3"


async def test_nobody_has_more_devices_than_the_limit(sql: SqlStore) -> None:
    await sql.create_user(User("u_ann", "ann", "Ann", 1), "")
    revoked = await asyncio.gather(*(sql.add_device(phone(n, n), 3) for n in range(10)))
    left = {device.device_id for device in await sql.devices("u_ann")}
    assert len(left) == 3
    assert sorted(itertools.chain(*revoked)) == sorted({f"d_{n}" for n in range(10)} - left)


async def test_nobody_has_more_friends_than_the_limit(sql: SqlStore) -> None:
    people = [f"u_{n}" for n in range(10)]
    await asyncio.gather(*(sql.create_user(User(u, u, u, 1), "") for u in ["u_ann", *people]))
    asked = await asyncio.gather(
        *(sql.friend_action("u_ann", u, FriendAction.REQUEST, 5, 3) for u in people), return_exceptions=True
    )
    refused = [each.code for each in asked if isinstance(each, ChatError)]
    assert refused == [Code.LIMIT_REACHED] * 7
    waiting = await asyncio.gather(
        *(sql.friend_action(u, people[0], FriendAction.REQUEST, 5, 3) for u in people[1:]),
        return_exceptions=True,
    )
    assert len([each for each in waiting if not isinstance(each, ChatError)]) in (2, 3)
    states = [friend.state for friend in (await sql.friends(people[0])).friends]
    assert states == [FriendState.PENDING] * 3
