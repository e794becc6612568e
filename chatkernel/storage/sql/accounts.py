"""The port Accounts on SQL."""

# ruff: noqa: S608 - constants of this module are joined; values are always bound

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Credentials, User
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import subjects, users
from chatkernel.storage.sql.statements import Query, Write
from chatkernel.storage.usernames import numbered, username_key

_COLUMNS = "user_id, username, display_name, created_at, about, avatar_url, suspended, last_active_at"
_profile = [users.c[name.strip()] for name in _COLUMNS.split(",")]
_users = Query(
    _COLUMNS,
    f"SELECT {_COLUMNS} FROM {{values}} k CROSS JOIN users WHERE user_id = k.id",
    values="id",
)
_touch = Write(
    "UPDATE users SET last_active_at = k.at FROM {values} k"
    " WHERE users.user_id = k.id AND COALESCE(users.last_active_at, 0) < k.at",
    values="id, at",
)


def _name_group(username: str) -> str:
    """Names that differ by numbers at the end are given one at a time: the free one must stay free. By numbers, for
    who is called `ann-2` may have to be told from others as `ann-2-2`."""
    return "name " + re.sub(r"(-[0-9]+)+$", "", username_key(username))


def _user(row: Sequence[Any]) -> User:
    return User(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]), row[7])


def create_user(conn: Connection, user: User, password_hash: str) -> None:
    key = username_key(user.username)
    if conn.execute(select(users.c.user_id).where(users.c.username_key == key)).first() is not None:
        raise ChatError(Code.USERNAME_TAKEN, field="username")
    values = {**msgspec.structs.asdict(user), "username_key": key, "password_hash": password_hash}
    try:
        conn.execute(insert(users).values(values))
    except IntegrityError as error:
        taken = "username_key" in str(error.orig)
        code = Code.USERNAME_TAKEN if taken else Code.CONFLICT
        raise ChatError(code, field="username" if taken else "user_id") from error


def find_users(conn: Connection, user_ids: Sequence[str]) -> dict[str, User]:
    return {row[0]: _user(row) for row in _users.rows_for(conn, [(user_id,) for user_id in user_ids])}


def user_by_name(conn: Connection, username: str) -> User | None:
    row = conn.execute(select(*_profile).where(users.c.username_key == username_key(username))).first()
    return None if row is None else _user(row)


def credentials(conn: Connection, username: str) -> Credentials | None:
    row = conn.execute(
        select(users.c.user_id, users.c.password_hash, users.c.suspended).where(
            users.c.username_key == username_key(username)
        )
    ).first()
    return None if row is None else Credentials(row[0], row[1], bool(row[2]))


def change_user(conn: Connection, user_id: str, values: dict[str, Any]) -> None:
    """Raises ChatError(USER_NOT_FOUND)."""
    if not conn.execute(update(users).where(users.c.user_id == user_id).values(values)).rowcount:
        raise ChatError(Code.USER_NOT_FOUND)


def set_password(conn: Connection, user_id: str, password_hash: str, expected: str | None) -> bool:
    mine = [users.c.user_id == user_id]
    if expected is not None:
        mine.append(users.c.password_hash == expected)
    if conn.execute(update(users).where(*mine).values(password_hash=password_hash)).rowcount:
        return True
    if not find_users(conn, [user_id]):
        raise ChatError(Code.USER_NOT_FOUND)
    return False


def update_profile(conn: Connection, user_id: str, values: dict[str, str]) -> User:
    if values:
        change_user(conn, user_id, dict(values))
    found = find_users(conn, [user_id]).get(user_id)
    if found is None:
        raise ChatError(Code.USER_NOT_FOUND)
    return found


def user_of_subject(conn: Connection, issuer: str, subject: str, new: User) -> User:
    known = conn.execute(
        select(*_profile)
        .join(subjects, subjects.c.user_id == users.c.user_id)
        .where(subjects.c.issuer == issuer, subjects.c.subject == subject)
    ).first()
    if known is not None:
        return _user(known)
    for name in numbered(new.username):
        if user_by_name(conn, name) is None:
            made = msgspec.structs.replace(new, username=name)
            create_user(conn, made, "")
            conn.execute(insert(subjects).values(issuer=issuer, subject=subject, user_id=made.user_id))
            return made
    raise ChatError(Code.USERNAME_TAKEN, field="username")


class SqlAccounts:
    _db: Runner

    async def create_user(self, user: User, password_hash: str) -> None:
        await self._db.write(
            lambda conn: create_user(conn, user, password_hash), about=[_name_group(user.username)]
        )

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        return await self._db.look(lambda conn: find_users(conn, user_ids)) if user_ids else {}

    async def user_by_name(self, username: str) -> User | None:
        return await self._db.look(lambda conn: user_by_name(conn, username))

    async def credentials(self, username: str) -> Credentials | None:
        return await self._db.look(lambda conn: credentials(conn, username))

    async def set_password(self, user_id: str, password_hash: str, expected: str | None = None) -> bool:
        # A log-in that has found the old one right is let in before it is replaced, or not at all.
        return await self._db.write(
            lambda conn: set_password(conn, user_id, password_hash, expected), about=[f"devices {user_id}"]
        )

    async def set_suspended(self, user_id: str, suspended: bool) -> None:
        await self._db.write(lambda conn: change_user(conn, user_id, {"suspended": suspended}))

    async def update_profile(
        self, user_id: str, *, display_name: str | None, about: str | None, avatar_url: str | None
    ) -> User:
        given = {"display_name": display_name, "about": about, "avatar_url": avatar_url}
        values = {name: value for name, value in given.items() if value is not None}
        return await self._db.write(lambda conn: update_profile(conn, user_id, values))

    async def touch_active(self, last_active_at: dict[str, int]) -> None:
        rows = list(last_active_at.items())
        if rows:
            await self._db.write(lambda conn: _touch.run_for(conn, rows))

    async def user_of_subject(self, issuer: str, subject: str, new: User) -> User:
        return await self._db.write(
            lambda conn: user_of_subject(conn, issuer, subject, new),
            about=[f"subject {issuer} {subject}", _name_group(new.username)],
        )
