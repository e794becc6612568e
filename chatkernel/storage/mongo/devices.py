"""The port Devices on MongoDB: devices and their refresh tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pymongo
from pymongo.errors import PyMongoError

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Device, RefreshOutcome, RefreshResult
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import lost_race, translated
from chatkernel.storage.refresh import REPLACED, may_be_retried

_TRIES = 8
TIDY_S = 1.0
"""How long whoever refreshes a token waits for what is only tidying: old tokens are on any shard."""


class MongoDevices:
    _collections: Collections

    async def add_device(
        self, device: Device, devices_max: int | None = None, password_hash: str | None = None
    ) -> list[str]:
        """The password is looked at after the device is there: a change that comes later revokes it with the others,
        and one that came before is seen here."""
        await self._put_device(device)
        if password_hash is not None:
            with translated():
                mine = {"_id": device.user_id, "password_hash": password_hash}
                still = await self._collections.users.find_one(mine, {"_id": 1})
            if still is None:
                await self.revoke_devices(device.user_id, [device.device_id], device.last_seen_at)
                raise ChatError(Code.WRONG_CREDENTIALS)
        if devices_max is None:
            return []
        others = [each for each in await self.devices(device.user_id) if each.device_id != device.device_id]
        others.sort(key=lambda other: other.last_seen_at)
        surplus = [other.device_id for other in others[: max(0, len(others) + 1 - devices_max)]]
        return await self.revoke_devices(device.user_id, surplus, device.last_seen_at) if surplus else []

    async def touch_device(self, device_id: str, at: int) -> None:
        with translated():
            await self._collections.devices.update_one({"_id": device_id}, {"$set": {"last_seen_at": at}})

    async def _put_device(self, device: Device) -> None:
        """Each log-in has a number of its own, and so have its tokens: one that is rotated while the device is logged
        in anew does not work with it."""
        login = os.urandom(8).hex()
        with translated():
            try:
                await self._collections.devices.insert_one(_document(device, login))
            except PyMongoError as error:
                if not lost_race(error):
                    raise
            else:
                return
            # Tokens of the log-in before must not work again with the device.
            known = await self._collections.devices.find_one({"_id": device.device_id}, {"user_id": 1})
            if known is not None and known["user_id"] == device.user_id:
                await self._collections.refresh_tokens.delete_many({"device_id": device.device_id})
            values = {
                "name": device.name,
                "last_seen_at": device.last_seen_at,
                "revoked_at": device.revoked_at,
                "login": login,
            }
            revived = await self._collections.devices.update_one(
                {"_id": device.device_id, "user_id": device.user_id}, {"$set": values}
            )
        if not revived.matched_count:
            raise ChatError(Code.CONFLICT, "This device id is another person's", field="device_id")

    async def devices(self, user_id: str) -> list[Device]:
        with translated():
            found = await self._collections.devices.find({"user_id": user_id, "revoked_at": None}).to_list()
        return [_device(each) for each in sorted(found, key=lambda one: (-one["created_at"], one["_id"]))]

    async def device(self, device_id: str) -> Device | None:
        with translated():
            found = await self._collections.devices.find_one({"_id": device_id})
        return None if found is None else _device(found)

    async def live_devices(self, device_ids: Sequence[str]) -> set[str]:
        if not device_ids:
            return set()
        wanted = {"_id": {"$in": list(dict.fromkeys(device_ids))}, "revoked_at": None}
        with translated():
            found = await self._collections.devices.find(wanted, {"user_id": 1}).to_list()
            people = {"_id": {"$in": list({each["user_id"] for each in found})}, "suspended": False}
            active = {each["_id"] async for each in self._collections.users.find(people, {"_id": 1})}
        return {each["_id"] for each in found if each["user_id"] in active}

    async def rename_device(self, user_id: str, device_id: str, name: str) -> bool:
        mine = {"_id": device_id, "user_id": user_id, "revoked_at": None}
        with translated():
            renamed = await self._collections.devices.update_one(mine, {"$set": {"name": name}})
        return renamed.matched_count > 0

    async def revoke_devices(self, user_id: str, device_ids: Sequence[str] | None, at: int) -> list[str]:
        """The tokens stay, so that one that is shown later is told as revoked; the device's state rules them."""
        mine: Document = {"user_id": user_id, "revoked_at": None}
        if device_ids is not None:
            mine["_id"] = {"$in": list(device_ids)}
        with translated():
            live = [each["_id"] async for each in self._collections.devices.find(mine, {"_id": 1})]
            if live:
                await self._collections.devices.update_many(
                    {"_id": {"$in": live}, "revoked_at": None}, {"$set": {"revoked_at": at}}
                )
        return live

    async def put_refresh(self, token_hash: str, user_id: str, device_id: str, expires_at: int) -> None:
        with translated():
            device = await self._collections.devices.find_one({"_id": device_id}, {"login": 1})
            if device is None:
                return  # erased meanwhile, with all its tokens: one more would never be found again
            token = {"user_id": user_id, "device_id": device_id, "login": device.get("login")}
            await self._insert_token(token_hash, token, expires_at)
            if await self._collections.devices.find_one({"_id": device_id}, {"_id": 1}) is None:
                await self._collections.refresh_tokens.delete_one({"_id": token_hash})

    async def _insert_token(self, token_hash: str, like: Document, expires_at: int) -> None:
        values = {name: like.get(name) for name in ("user_id", "device_id", "login")}
        await self._collections.refresh_tokens.insert_one(
            {"_id": token_hash, **values, "expires_at": expires_at, "used_at": None}
        )

    async def rotate_refresh(
        self, token_hash: str, new_hash: str, now: int, expires_at: int
    ) -> RefreshResult:
        """The successor is there before the token is marked as used, and each decision is one guarded update: if the
        process dies anywhere, or an answer is lost, the token can be shown again."""
        for _ in range(_TRIES):
            with translated():
                result = await self._rotate(token_hash, new_hash, now, expires_at)
                if result is not None and result.outcome is RefreshOutcome.ROTATED:
                    await self._tidy(str(result.device_id), now)
            if result is not None:
                break
        else:
            raise ChatError(Code.BUSY, retry_after_s=0.5)
        if result.outcome is RefreshOutcome.REUSED:
            await self.revoke_devices(str(result.user_id), [str(result.device_id)], now)
        return result

    async def _rotate(
        self, token_hash: str, new_hash: str, now: int, expires_at: int
    ) -> RefreshResult | None:
        """None: somebody else decided meanwhile; to be looked at again."""
        tokens = self._collections.refresh_tokens
        found = await tokens.find_one({"_id": token_hash})
        if found is None:
            return RefreshResult(RefreshOutcome.UNKNOWN)
        device = await self._collections.devices.find_one(
            {"_id": found["device_id"]}, {"revoked_at": 1, "login": 1}
        )
        if device is not None and device.get("login") != found.get("login"):
            return RefreshResult(RefreshOutcome.UNKNOWN)  # as if deleted: of a log-in before
        live = device is not None and device["revoked_at"] is None
        if found["used_at"] is None:
            if not live or found["expires_at"] <= now:
                outcome = RefreshOutcome.EXPIRED if live else RefreshOutcome.REVOKED
                return RefreshResult(outcome, found["user_id"], found["device_id"])
            before, after = {"used_at": None}, {"used_at": now}
        else:
            lost = await self._lost_successor(found, now) if live else None
            if lost is None:
                return RefreshResult(RefreshOutcome.REUSED, found["user_id"], found["device_id"])
            if lost["used_at"] is None:
                given_up = await tokens.update_one(
                    {"_id": lost["_id"], "used_at": None}, {"$set": {"used_at": REPLACED}}
                )
                if not given_up.matched_count:
                    return None
            before, after = {"next": lost["_id"]}, {}
        await self._insert_token(new_hash, found, expires_at)
        used = await tokens.update_one({"_id": token_hash, **before}, {"$set": {**after, "next": new_hash}})
        if not used.matched_count:
            await tokens.delete_one({"_id": new_hash})
            return None
        return RefreshResult(RefreshOutcome.ROTATED, found["user_id"], found["device_id"])

    async def _lost_successor(self, used: Document, now: int) -> Document | None:
        """The successor that nobody has used, of a token that may be shown again. REPLACED is one that a retry before
        this one has given up, and perhaps died."""
        if not may_be_retried(used["used_at"], now):
            return None
        successor = await self._collections.refresh_tokens.find_one({"_id": used.get("next")})
        return None if successor is None or successor["used_at"] else successor

    async def _tidy(self, device_id: str, now: int) -> None:
        """Behind the decision, which stands whether this works or not."""
        with suppress(PyMongoError), pymongo.timeout(TIDY_S):
            await self._collections.devices.update_one({"_id": device_id}, {"$set": {"last_seen_at": now}})
            # What has expired can no longer be reused: a device keeps no more tokens than it uses in their life-time.
            expired = {"device_id": device_id, "expires_at": {"$lte": now}}
            await self._collections.refresh_tokens.delete_many(expired)


def _document(device: Device, login: str) -> Document:
    values = {**msgspec.structs.asdict(device), "login": login}
    values["_id"] = values.pop("device_id")
    return values


def _device(found: Document) -> Device:
    return Device(
        found["_id"],
        found["user_id"],
        found["name"],
        found["created_at"],
        found["last_seen_at"],
        found["revoked_at"],
    )
