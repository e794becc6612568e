"""The port People on MongoDB: friends, blocks and settings.

Two people have one document, so that every change between them is one write: read, decide, and update only what was
read (by its version).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pymongo.errors import PyMongoError

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.storage.list_cursor import cursor_of, parse_cursor
from chatkernel.storage.model import Friend, FriendAction, FriendChange, FriendPage, FriendState, UserSettings
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import lost_race, translated
from chatkernel.storage.mongo.membership import State

_TRIES = 8
_values = msgspec.json.Decoder(dict[str, Any])


class _Pair:
    """Two people as one of them sees it. `asked`: who asked first, of a request; `friends`: both agreed."""

    def __init__(self, found: Document | None, me: str, other: str) -> None:
        self.me, self.other = me, other
        self.version: int = 0 if found is None else found["version"]
        self.state: str = "" if found is None else found["state"]
        self.asked: str = "" if found is None else found["asked"]
        self.since: int = 0 if found is None else found["since"]
        self.blocks: dict[str, int] = {} if found is None else dict(found["blocks"])
        """Who has blocked the other, and since when."""

    @property
    def mine(self) -> FriendState | None:
        return FriendState.BLOCKED if self.me in self.blocks else self.relation

    @property
    def relation(self) -> FriendState | None:
        """Beside any block."""
        if self.state == "friends":
            return FriendState.FRIENDS
        if self.state == "requested":
            return FriendState.REQUESTED if self.asked == self.me else FriendState.PENDING
        return None

    def act(self, action: FriendAction, at: int) -> None:
        """Raises ChatError."""
        match action:
            case FriendAction.REQUEST:
                if self.blocks:
                    raise ChatError(Code.BLOCKED)
                if self.relation is FriendState.PENDING:
                    self._become("friends", at)
                elif self.relation is None:
                    self._become("requested", at)
            case FriendAction.ACCEPT:
                if self.other in self.blocks:
                    raise ChatError(Code.BLOCKED)
                if self.mine is FriendState.PENDING:
                    self._become("friends", at)
                elif self.mine is not FriendState.FRIENDS:
                    raise ChatError(Code.NOT_FOUND, "They have not asked")
            case FriendAction.REMOVE:
                self._become("", at)
            case FriendAction.BLOCK:
                if self.me not in self.blocks:
                    self.blocks[self.me] = at
                    self._become("", at)
            case FriendAction.UNBLOCK:
                self.blocks.pop(self.me, None)

    def _become(self, state: str, at: int) -> None:
        if self.state != state:
            self.state, self.since = state, at
            self.asked = self.me if state == "requested" else ""

    def values(self) -> Document:
        return {
            "people": sorted((self.me, self.other)),
            "state": self.state,
            "asked": self.asked,
            "since": self.since,
            "blocks": self.blocks,
            "version": self.version + 1,
        }


def _pair_id(a: str, b: str) -> str:
    return "/".join(sorted((a, b)))


class MongoPeople:
    _collections: Collections

    async def friend_action(
        self, user_id: str, other_id: str, action: FriendAction, at: int, friends_max: int | None = None
    ) -> FriendChange:
        """The limits are looked at beside the write: acts that meet may pass them by as many as meet."""
        if user_id == other_id:
            raise invalid("user_id", "is yourself")
        pair_id = _pair_id(user_id, other_id)
        with translated():
            known = {"_id": {"$in": [user_id, other_id]}}
            if await self._collections.users.count_documents(known) < 2:
                raise ChatError(Code.USER_NOT_FOUND, field="user_id")
            for _ in range(_TRIES):
                found = await self._collections.pairs.find_one({"_id": pair_id})
                before, pair = _Pair(found, user_id, other_id), _Pair(found, user_id, other_id)
                pair.act(action, at)
                # Of a block the other hears nothing but that a friendship or request is gone.
                other_changed = pair.relation is not before.relation
                changed = other_changed or pair.blocks != before.blocks
                if other_changed and friends_max is not None:
                    await self._check_room(pair, friends_max)
                if friends_max is not None and user_id in pair.blocks and user_id not in before.blocks:
                    await self._check_blocks(user_id, friends_max)
                if not changed or await self._put(pair_id, pair):
                    return FriendChange(pair.mine, changed, other_changed)
        raise ChatError(Code.BUSY, field="user_id", retry_after_s=0.5)

    async def _check_room(self, pair: _Pair, most: int) -> None:
        """Raises ChatError(LIMIT_REACHED). Not counted is what strangers asked of the person: nobody may be kept from
        asking by others."""
        count = self._collections.pairs.count_documents
        if pair.relation in (FriendState.FRIENDS, FriendState.REQUESTED):
            mine = {
                "people": pair.me,
                "$or": [{"state": "friends"}, {"state": "requested", "asked": pair.me}],
            }
            if await count(mine) >= most:
                detail = f"At most {most} friends and requests"
                raise ChatError(Code.LIMIT_REACHED, detail, field="user_id", limit=most)
        if pair.relation is FriendState.REQUESTED:
            waiting = {"people": pair.other, "state": "requested", "asked": {"$ne": pair.other}}
            if await count(waiting) >= most:
                detail = f"The person has {most} requests waiting"
                raise ChatError(Code.LIMIT_REACHED, detail, field="user_id", limit=most)

    async def _check_blocks(self, user_id: str, most: int) -> None:
        """Raises ChatError(LIMIT_REACHED)."""
        mine = {"people": user_id, f"blocks.{user_id}": {"$exists": True}}
        if await self._collections.pairs.count_documents(mine) >= most:
            raise ChatError(Code.LIMIT_REACHED, f"At most {most} blocked people", field="user_id", limit=most)

    async def _put(self, pair_id: str, pair: _Pair) -> bool:
        """False: somebody else changed it since it was read."""
        if pair.version:
            put = await self._collections.pairs.update_one(
                {"_id": pair_id, "version": pair.version}, {"$set": pair.values()}
            )
            return put.matched_count > 0
        try:
            await self._collections.pairs.insert_one({"_id": pair_id, **pair.values()})
        except PyMongoError as error:
            if not lost_race(error):
                raise
            return False
        return True

    async def friends(self, user_id: str, cursor: str | None = None, limit: int = 1000) -> FriendPage:
        since, after_id = parse_cursor(cursor)
        found: list[Friend] = []
        with translated():
            # Not those who only block the person: strangers may be as many as they like.
            mine = {
                "people": user_id,
                "$or": [{"state": {"$ne": ""}}, {f"blocks.{user_id}": {"$exists": True}}],
            }
            async for each in self._collections.pairs.find(mine):
                pair = _Pair(each, user_id, next(one for one in each["people"] if one != user_id))
                state = pair.mine
                if state is not None:
                    at = pair.blocks[user_id] if state is FriendState.BLOCKED else pair.since
                    found.append(Friend(pair.other, state, at))
        found.sort(key=lambda friend: (-friend.since, friend.user_id))
        found = [each for each in found if (-each.since, each.user_id) > (-since, after_id)]
        if len(found) <= limit:
            return FriendPage(found)
        return FriendPage(found[:limit], cursor_of(found[limit - 1].since, found[limit - 1].user_id))

    async def friend_ids(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """Accepted friends only."""
        answer: dict[str, list[str]] = {user_id: [] for user_id in user_ids}
        if answer:
            wanted = {"people": {"$in": list(answer)}, "state": "friends"}
            with translated():
                async for each in self._collections.pairs.find(wanted, {"people": 1}):
                    first, second = each["people"]
                    for one, other in ((first, second), (second, first)):
                        if one in answer:
                            answer[one].append(other)
        return answer

    async def blocked_between(self, a: str, b: str) -> bool:
        with translated():
            found = await self._collections.pairs.find_one({"_id": _pair_id(a, b)}, {"blocks": 1})
        return found is not None and bool(found["blocks"])

    async def blocked_channels(self, channel_ids: Sequence[str]) -> set[str]:
        wanted = {"channel_id": {"$in": list(channel_ids)}, "state": State.MEMBER.value}
        members: dict[str, list[str]] = {}
        with translated():
            async for each in self._collections.memberships.find(wanted, {"channel_id": 1, "user_id": 1}):
                members.setdefault(each["channel_id"], []).append(each["user_id"])
            pairs = {_pair_id(*two): channel_id for channel_id, two in members.items() if len(two) == 2}
            found = self._collections.pairs.find({"_id": {"$in": list(pairs)}}, {"blocks": 1})
            return {pairs[each["_id"]] async for each in found if each["blocks"]}

    async def blockers(self, user_id: str, among: Sequence[str]) -> set[str]:
        by_pair = {_pair_id(user_id, other): other for other in among if other != user_id}
        with translated():
            found = self._collections.pairs.find({"_id": {"$in": list(by_pair)}}, {"blocks": 1})
            return {by_pair[each["_id"]] async for each in found if by_pair[each["_id"]] in each["blocks"]}

    async def blocked_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        answer: dict[str, list[str]] = {user_id: [] for user_id in user_ids}
        if answer:
            with translated():
                found = self._collections.pairs.find(
                    {"people": {"$in": list(answer)}}, {"people": 1, "blocks": 1}
                )
                async for each in found:
                    for one in each["blocks"]:
                        if one in answer:
                            answer[one].extend(other for other in each["people"] if other != one)
        return answer

    async def settings(self, user_id: str) -> UserSettings:
        with translated():
            found = await self._collections.settings.find_one({"_id": user_id})
        return (
            UserSettings({}, 0)
            if found is None
            else UserSettings(_values.decode(found["body"]), found["version"])
        )

    async def put_settings(
        self, user_id: str, values: dict[str, Any], expected_version: int | None
    ) -> UserSettings | None:
        body = msgspec.json.encode(values).decode()
        with translated():
            for _ in range(_TRIES):
                version = (await self.settings(user_id)).version
                if expected_version is not None and expected_version != version:
                    return None
                if await self._put_settings(user_id, body, version):
                    return UserSettings(values, version + 1)
        raise ChatError(Code.BUSY, retry_after_s=0.5)

    async def _put_settings(self, user_id: str, body: str, version: int) -> bool:
        if version:
            put = await self._collections.settings.update_one(
                {"_id": user_id, "version": version}, {"$set": {"body": body, "version": version + 1}}
            )
            return put.matched_count > 0
        if await self._collections.users.find_one({"_id": user_id}, {"_id": 1}) is None:
            raise ChatError(Code.USER_NOT_FOUND)
        try:
            await self._collections.settings.insert_one({"_id": user_id, "body": body, "version": 1})
        except PyMongoError as error:
            if not lost_race(error):
                raise
            return False
        return True
