"""The port People on SQL: friends, blocks and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, literal, or_, select, union_all, update

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.storage.list_cursor import cursor_of, parse_cursor
from chatkernel.storage.model import (
    Friend,
    FriendAction,
    FriendChange,
    FriendPage,
    FriendState,
    UserSettings,
)
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import blocks, friends, user_settings, users
from chatkernel.storage.sql.statements import Query

_friend_ids = Query(
    "user_id, other_id",
    "SELECT f.user_id, f.other_id FROM {values} k CROSS JOIN friends f"
    " WHERE f.user_id = k.id AND f.state = 'friends'",
    values="id",
)
_blocked_channels = Query(
    "channel_id",
    "SELECT DISTINCT m.channel_id FROM {values} k CROSS JOIN memberships m"
    " CROSS JOIN memberships o CROSS JOIN blocks b"
    " WHERE m.channel_id = k.id AND o.channel_id = k.id AND b.user_id = m.user_id AND b.other_id = o.user_id",
    values="id",
)
_blockers = Query(
    "user_id",
    "SELECT b.user_id FROM {values} k CROSS JOIN blocks b WHERE b.user_id = k.id AND b.other_id = :user_id",
    values="id",
)
_blocked_by = Query(
    "user_id, other_id",
    "SELECT b.user_id, b.other_id FROM {values} k CROSS JOIN blocks b WHERE b.user_id = k.id",
    values="id",
)
_values = msgspec.json.Decoder(dict[str, Any])


def _has_blocked(conn: Connection, user_id: str, other_id: str) -> bool:
    found = select(blocks.c.since).where(blocks.c.user_id == user_id, blocks.c.other_id == other_id)
    return conn.execute(found).first() is not None


def _relation(conn: Connection, user_id: str, other_id: str) -> FriendState | None:
    """Without blocks: what the other has a row of as well."""
    found = select(friends.c.state).where(friends.c.user_id == user_id, friends.c.other_id == other_id)
    state = conn.execute(found).scalar()
    return None if state is None else FriendState(state)


def _pair(a: str, b: str) -> Any:
    """Both rows of two people."""
    return or_(
        and_(friends.c.user_id == a, friends.c.other_id == b),
        and_(friends.c.user_id == b, friends.c.other_id == a),
    )


def _check_room(conn: Connection, user_id: str, states: Sequence[FriendState], most: int | None) -> None:
    if most is None:
        return
    counted = select(func.count()).where(
        friends.c.user_id == user_id, friends.c.state.in_([state.value for state in states])
    )
    if (conn.execute(counted).scalar() or 0) >= most:
        waiting = FriendState.PENDING in states
        detail = (
            f"The person has {most} requests waiting" if waiting else f"At most {most} friends and requests"
        )
        raise ChatError(Code.LIMIT_REACHED, detail, field="user_id", limit=most)


def _befriend(conn: Connection, user_id: str, other_id: str, at: int, most: int | None) -> None:
    # The request of the other counts on their side already.
    _check_room(conn, user_id, (FriendState.FRIENDS, FriendState.REQUESTED), most)
    conn.execute(
        update(friends).where(_pair(user_id, other_id)).values(state=FriendState.FRIENDS.value, since=at)
    )


def _request(conn: Connection, user_id: str, other_id: str, at: int, most: int | None) -> None:
    if _has_blocked(conn, user_id, other_id) or _has_blocked(conn, other_id, user_id):
        raise ChatError(Code.BLOCKED)
    state = _relation(conn, user_id, other_id)
    if state is FriendState.PENDING:
        _befriend(conn, user_id, other_id, at, most)
    if state is not None:
        return
    # Not what strangers asked of the person: nobody may be kept from asking by others.
    _check_room(conn, user_id, (FriendState.FRIENDS, FriendState.REQUESTED), most)
    _check_room(conn, other_id, (FriendState.PENDING,), most)
    rows = [
        {"user_id": user_id, "other_id": other_id, "state": FriendState.REQUESTED.value, "since": at},
        {"user_id": other_id, "other_id": user_id, "state": FriendState.PENDING.value, "since": at},
    ]
    conn.execute(insert(friends), rows)


def _accept(conn: Connection, user_id: str, other_id: str, at: int, most: int | None) -> None:
    if _has_blocked(conn, other_id, user_id):
        raise ChatError(Code.BLOCKED)
    state = None if _has_blocked(conn, user_id, other_id) else _relation(conn, user_id, other_id)
    if state is FriendState.PENDING:
        _befriend(conn, user_id, other_id, at, most)
    elif state is not FriendState.FRIENDS:
        raise ChatError(Code.NOT_FOUND, "They have not asked")


def _block(conn: Connection, user_id: str, other_id: str, at: int, most: int | None) -> None:
    if not _has_blocked(conn, user_id, other_id):
        counted = select(func.count()).where(blocks.c.user_id == user_id)
        if most is not None and (conn.execute(counted).scalar() or 0) >= most:
            raise ChatError(Code.LIMIT_REACHED, f"At most {most} blocked people", field="user_id", limit=most)
        conn.execute(insert(blocks).values(user_id=user_id, other_id=other_id, since=at))
        conn.execute(delete(friends).where(_pair(user_id, other_id)))


def friend_action(
    conn: Connection, user_id: str, other_id: str, action: FriendAction, *, at: int, friends_max: int | None
) -> FriendChange:
    if user_id == other_id:
        raise invalid("user_id", "is yourself")
    for one in (user_id, other_id):
        if conn.execute(select(users.c.user_id).where(users.c.user_id == one)).first() is None:
            raise ChatError(Code.USER_NOT_FOUND, field="user_id")
    before = _standing(conn, user_id, other_id)
    match action:
        case FriendAction.REQUEST:
            _request(conn, user_id, other_id, at, friends_max)
        case FriendAction.ACCEPT:
            _accept(conn, user_id, other_id, at, friends_max)
        case FriendAction.BLOCK:
            _block(conn, user_id, other_id, at, friends_max)
        case FriendAction.REMOVE:
            conn.execute(delete(friends).where(_pair(user_id, other_id)))
        case FriendAction.UNBLOCK:
            mine = (blocks.c.user_id == user_id, blocks.c.other_id == other_id)
            conn.execute(delete(blocks).where(*mine))
    after = _standing(conn, user_id, other_id)
    blocked, relation = after
    # Of a block the other hears nothing but that a friendship or request is gone, as if it had been removed.
    return FriendChange(FriendState.BLOCKED if blocked else relation, after != before, relation != before[1])


def _standing(conn: Connection, user_id: str, other_id: str) -> tuple[bool, FriendState | None]:
    """Whether the person has blocked the other, and how they stand beside that."""
    return _has_blocked(conn, user_id, other_id), _relation(conn, user_id, other_id)


def list_friends(conn: Connection, user_id: str, cursor: str | None, limit: int) -> FriendPage:
    """Friends, requests and blocks, newest first. Sorts all of a person's, which are bounded."""
    since, after_id = parse_cursor(cursor)
    related = select(friends.c.other_id, friends.c.state, friends.c.since).where(friends.c.user_id == user_id)
    blocked = select(blocks.c.other_id, literal(FriendState.BLOCKED.value), blocks.c.since)
    both = union_all(related, blocked.where(blocks.c.user_id == user_id)).subquery()
    older = or_(both.c.since < since, and_(both.c.since == since, both.c.other_id > after_id))
    page = select(both).where(older).order_by(both.c.since.desc(), both.c.other_id).limit(limit + 1)
    found = [Friend(row[0], FriendState(row[1]), row[2]) for row in conn.execute(page)]
    if len(found) <= limit:
        return FriendPage(found)
    last = found[limit - 1]
    return FriendPage(found[:limit], cursor_of(last.since, last.user_id))


def others_of(conn: Connection, query: Query, user_ids: Sequence[str]) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = {user_id: [] for user_id in user_ids}
    for user_id, other_id in query.rows_for(conn, [(user_id,) for user_id in answer]):
        answer[user_id].append(other_id)
    return answer


def read_settings(conn: Connection, user_id: str) -> UserSettings:
    mine = select(user_settings.c.body, user_settings.c.version).where(user_settings.c.user_id == user_id)
    row = conn.execute(mine).first()
    return UserSettings({}, 0) if row is None else UserSettings(_values.decode(row[0]), row[1])


def put_settings(
    conn: Connection, user_id: str, values: dict[str, Any], expected_version: int | None
) -> UserSettings | None:
    version = read_settings(conn, user_id).version
    if expected_version is not None and expected_version != version:
        return None
    body = msgspec.json.encode(values).decode()
    if version:
        mine = user_settings.c.user_id == user_id
        conn.execute(update(user_settings).where(mine).values(body=body, version=version + 1))
    elif conn.execute(select(users.c.user_id).where(users.c.user_id == user_id)).first() is None:
        raise ChatError(Code.USER_NOT_FOUND)
    else:
        conn.execute(insert(user_settings).values(user_id=user_id, body=body, version=1))
    return UserSettings(values, version + 1)


class SqlPeople:
    _db: Runner

    async def friend_action(
        self, user_id: str, other_id: str, action: FriendAction, at: int, friends_max: int | None = None
    ) -> FriendChange:
        return await self._db.write(
            lambda conn: friend_action(conn, user_id, other_id, action, at=at, friends_max=friends_max),
            about=[f"friends {user_id}", f"friends {other_id}"],
        )

    async def friends(self, user_id: str, cursor: str | None = None, limit: int = 1000) -> FriendPage:
        return await self._db.look(lambda conn: list_friends(conn, user_id, cursor, limit))

    async def friend_ids(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        return await self._db.look(lambda conn: others_of(conn, _friend_ids, user_ids)) if user_ids else {}

    async def blocked_between(self, a: str, b: str) -> bool:
        return await self._db.read(lambda conn: _has_blocked(conn, a, b) or _has_blocked(conn, b, a))

    async def blocked_channels(self, channel_ids: Sequence[str]) -> set[str]:
        keys = [(channel_id,) for channel_id in channel_ids]
        return {row[0] for row in await self._db.look(lambda conn: _blocked_channels.rows_for(conn, keys))}

    async def blockers(self, user_id: str, among: Sequence[str]) -> set[str]:
        keys = [(other_id,) for other_id in among]
        params = {"user_id": user_id}
        return {row[0] for row in await self._db.look(lambda conn: _blockers.rows_for(conn, keys, params))}

    async def blocked_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        return await self._db.look(lambda conn: others_of(conn, _blocked_by, user_ids)) if user_ids else {}

    async def settings(self, user_id: str) -> UserSettings:
        return await self._db.look(lambda conn: read_settings(conn, user_id))

    async def put_settings(
        self, user_id: str, values: dict[str, Any], expected_version: int | None
    ) -> UserSettings | None:
        return await self._db.write(
            lambda conn: put_settings(conn, user_id, values, expected_version), about=[f"settings {user_id}"]
        )
