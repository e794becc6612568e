"""The port Accounts on MongoDB.

What must be unique and is not the shard key is claimed first, by a document of its own whose `_id` is the claimed
value. A claim whose account was never made (the process died in between) is taken over after a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.storage.erased import SUBJECT_HOLD_MS, subject_digest, username_digest
from chatkernel.storage.model import Credentials, User
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import lost_race, translated
from chatkernel.storage.usernames import numbered, username_key

CLAIM_GRACE_MS = 60_000
"""An account is made within this after its claim, or the claim is forfeit."""


class MongoAccounts:
    _collections: Collections

    async def create_user(self, user: User, password_hash: str) -> None:
        """The claim is confirmed when the account is there: whoever took so long over it that somebody else holds
        the name by now gives the account up again."""
        value = f"username:{username_key(user.username)}"
        with translated():
            await self._claim(value, user.user_id, "username")
            # Looked at behind the claim: whoever erases puts the digest there before the claim goes.
            digest = username_digest(username_key(user.username))
            if await self._collections.claims.find_one({"_id": f"erased:{digest}"}, {"_id": 1}):
                await self._release(value, user.user_id)
                raise ChatError(Code.USERNAME_TAKEN, field="username")
            try:
                await self._collections.users.insert_one(_document(user, password_hash))
            except PyMongoError as error:
                if lost_race(error):
                    raise ChatError(Code.CONFLICT, field="user_id") from error
                await self._release(value, user.user_id)
                raise
            mine = {"_id": value, "user_id": user.user_id}
            confirmed = await self._collections.claims.update_one(mine, {"$set": {"made": True}})
            if not confirmed.matched_count:
                await self._collections.users.delete_one({"_id": user.user_id, "username": user.username})
                raise ChatError(Code.USERNAME_TAKEN, field="username")

    async def _release(self, value: str, user_id: str) -> None:
        """Of an account that was not made, so that its person can try again at once. If this fails too, they can
        after the grace."""
        with suppress(PyMongoError):
            if await self._collections.users.find_one({"_id": user_id}, {"_id": 1}) is None:
                await self._collections.claims.delete_one(
                    {"_id": value, "user_id": user_id, "made": {"$ne": True}}
                )

    async def _claim(self, value: str, user_id: str, field: str) -> None:
        """Raises ChatError(USERNAME_TAKEN), PyMongoError."""
        claims, at = self._collections.claims, now_ms()
        try:
            await claims.insert_one({"_id": value, "user_id": user_id, "at": at})
        except PyMongoError as error:
            if not lost_race(error):
                raise
            held = await claims.find_one({"_id": value})
            if held is None or held["user_id"] == user_id or await self._is_used(held, at):
                if held is not None and held["user_id"] == user_id:
                    return
                raise ChatError(Code.USERNAME_TAKEN, field=field) from error
            taken = await claims.update_one(
                {"_id": value, "user_id": held["user_id"], "at": held["at"], "made": {"$ne": True}},
                {"$set": {"user_id": user_id, "at": at}},
            )
            if not taken.matched_count:
                raise ChatError(Code.USERNAME_TAKEN, field=field) from error

    async def _is_used(self, claim: Document, at: int) -> bool:
        if claim.get("made") or claim["at"] > at - CLAIM_GRACE_MS:
            return True
        return await self._collections.users.find_one({"_id": claim["user_id"]}, {"_id": 1}) is not None

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        if not user_ids:
            return {}
        wanted = {"_id": {"$in": list(dict.fromkeys(user_ids))}}
        with translated():
            return {each["_id"]: _user(each) async for each in self._collections.users.find(wanted)}

    async def user_by_name(self, username: str) -> User | None:
        with translated():
            found = await self._by_name(username)
        return None if found is None else _user(found)

    async def _by_name(self, username: str) -> Document | None:
        claim = await self._collections.claims.find_one({"_id": f"username:{username_key(username)}"})
        return None if claim is None else await self._collections.users.find_one({"_id": claim["user_id"]})

    async def credentials(self, username: str) -> Credentials | None:
        with translated():
            found = await self._by_name(username)
        return (
            None if found is None else Credentials(found["_id"], found["password_hash"], found["suspended"])
        )

    async def set_password(self, user_id: str, password_hash: str, expected: str | None = None) -> bool:
        mine: Document = {"_id": user_id} if expected is None else {"_id": user_id, "password_hash": expected}
        with translated():
            put = await self._collections.users.update_one(mine, {"$set": {"password_hash": password_hash}})
            if put.matched_count:
                return True
            if await self._collections.users.find_one({"_id": user_id}, {"_id": 1}) is None:
                raise ChatError(Code.USER_NOT_FOUND)
        return False

    async def set_suspended(self, user_id: str, suspended: bool) -> None:
        await self._change(user_id, {"suspended": suspended})

    async def _change(self, user_id: str, values: Document) -> None:
        with translated():
            changed = await self._collections.users.update_one({"_id": user_id}, {"$set": values})
        if not changed.matched_count:
            raise ChatError(Code.USER_NOT_FOUND)

    async def update_profile(
        self, user_id: str, *, display_name: str | None, about: str | None, avatar_url: str | None
    ) -> User:
        given = {"display_name": display_name, "about": about, "avatar_url": avatar_url}
        values = {name: value for name, value in given.items() if value is not None}
        if values:
            await self._change(user_id, values)
        found = (await self.users([user_id])).get(user_id)
        if found is None:
            raise ChatError(Code.USER_NOT_FOUND)
        return found

    async def touch_active(self, last_active_at: dict[str, int]) -> None:
        writes = [
            UpdateOne({"_id": user_id}, {"$max": {"last_active_at": at}})
            for user_id, at in last_active_at.items()
        ]
        if writes:
            with translated():
                await self._collections.users.bulk_write(writes, ordered=False)

    async def user_of_subject(self, issuer: str, subject: str, new: User) -> User:
        """The person's claim decides which of several first sights makes the account; the others wait for it."""
        value = f"subject:{issuer}\n{subject}"
        with translated():
            claims = self._collections.claims
            gone = await claims.find_one({"_id": f"erased:{subject_digest(issuer, subject)}"})
            if gone is not None and gone["at"] > new.created_at - SUBJECT_HOLD_MS:
                raise ChatError(Code.ACCOUNT_ERASED)
            try:
                await claims.insert_one({"_id": value, "user_id": new.user_id, "at": now_ms()})
            except PyMongoError as error:
                if not lost_race(error):
                    raise
            held = await claims.find_one({"_id": value})
            user_id = new.user_id if held is None else held["user_id"]
            # Whoever comes makes the account of the claim, also if the first died before: one insert wins.
            known = await self._collections.users.find_one({"_id": user_id})
            if known is not None:
                return _user(known)
        for name in numbered(new.username):
            made = msgspec.structs.replace(new, user_id=user_id, username=name)
            try:
                await self.create_user(made, "")
            except ChatError as error:
                if error.code is Code.USERNAME_TAKEN:
                    continue
                if error.code is not Code.CONFLICT:
                    raise
            found = (await self.users([user_id])).get(user_id)
            if found is not None:
                return found
        raise ChatError(Code.USERNAME_TAKEN, field="username")


def _document(user: User, password_hash: str) -> Document:
    values = {**msgspec.structs.asdict(user), "password_hash": password_hash}
    values["_id"] = values.pop("user_id")
    if values["last_active_at"] is None:
        del values["last_active_at"]  # `$max` with null would keep null
    return values


def _user(found: Document) -> User:
    return User(
        found["_id"],
        found["username"],
        found["display_name"],
        found["created_at"],
        found["about"],
        found["avatar_url"],
        found["suspended"],
        found.get("last_active_at"),
    )
