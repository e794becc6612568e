"""The port Devices on SQL: devices and their refresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Device, RefreshOutcome, RefreshResult
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import devices, refresh_tokens, users
from chatkernel.storage.sql.statements import Query

_fields = [devices.c[name] for name in Device.__struct_fields__]
_live = Query(
    "device_id",
    "SELECT d.device_id FROM {values} k CROSS JOIN devices d CROSS JOIN users u"
    " WHERE d.device_id = k.id AND d.revoked_at IS NULL AND u.user_id = d.user_id AND NOT u.suspended",
    values="id",
)


def _device(row: Sequence[Any]) -> Device:
    return Device(row[0], row[1], row[2], row[3], row[4], row[5])


def add_device(
    conn: Connection, device: Device, devices_max: int | None, password_hash: str | None
) -> list[str]:
    if password_hash is not None:
        mine = select(users.c.password_hash).where(users.c.user_id == device.user_id)
        if conn.execute(mine).scalar() != password_hash:
            raise ChatError(Code.WRONG_CREDENTIALS)
    _put_device(conn, device)
    if devices_max is None:
        return []
    others = [other for other in list_devices(conn, device.user_id) if other.device_id != device.device_id]
    others.sort(key=lambda other: other.last_seen_at)
    surplus = [other.device_id for other in others[: max(0, len(others) + 1 - devices_max)]]
    return revoke_devices(conn, device.user_id, surplus, device.last_seen_at) if surplus else []


def _put_device(conn: Connection, device: Device) -> None:
    known = find_device(conn, device.device_id)
    if known is None:
        conn.execute(insert(devices).values(msgspec.structs.asdict(device)))
        return
    if known.user_id != device.user_id:
        raise ChatError(Code.CONFLICT, "This device id is another person's", field="device_id")
    # Tokens of the log-in before must not work again with the device.
    conn.execute(delete(refresh_tokens).where(refresh_tokens.c.device_id == device.device_id))
    values = {"name": device.name, "last_seen_at": device.last_seen_at, "revoked_at": device.revoked_at}
    conn.execute(update(devices).where(devices.c.device_id == device.device_id).values(values))


def touch_device(conn: Connection, device_id: str, at: int) -> None:
    conn.execute(update(devices).where(devices.c.device_id == device_id).values(last_seen_at=at))


def find_device(conn: Connection, device_id: str) -> Device | None:
    row = conn.execute(select(*_fields).where(devices.c.device_id == device_id)).first()
    return None if row is None else _device(row)


def list_devices(conn: Connection, user_id: str) -> list[Device]:
    found = conn.execute(
        select(*_fields)
        .where(devices.c.user_id == user_id, devices.c.revoked_at.is_(None))
        .order_by(devices.c.created_at.desc(), devices.c.device_id)
    )
    return [_device(row) for row in found]


def live_devices(conn: Connection, device_ids: Sequence[str]) -> set[str]:
    return {row[0] for row in _live.rows_for(conn, [(device_id,) for device_id in device_ids])}


def rename_device(conn: Connection, user_id: str, device_id: str, name: str) -> bool:
    mine = (devices.c.device_id == device_id, devices.c.user_id == user_id, devices.c.revoked_at.is_(None))
    return conn.execute(update(devices).where(*mine).values(name=name)).rowcount > 0


def revoke_devices(conn: Connection, user_id: str, device_ids: Sequence[str] | None, at: int) -> list[str]:
    mine = [devices.c.user_id == user_id, devices.c.revoked_at.is_(None)]
    if device_ids is not None:
        mine.append(devices.c.device_id.in_(list(device_ids)))
    live = list(conn.execute(select(devices.c.device_id).where(*mine)).scalars())
    if live:
        # The tokens stay, so that one that is shown later is told as revoked; the device's state rules them.
        conn.execute(update(devices).where(devices.c.device_id.in_(live)).values(revoked_at=at))
    return live


def put_refresh(conn: Connection, token_hash: str, user_id: str, device_id: str, expires_at: int) -> None:
    values = {
        "token_hash": token_hash,
        "user_id": user_id,
        "device_id": device_id,
        "expires_at": expires_at,
    }
    conn.execute(insert(refresh_tokens).values(values))


def user_of_token(conn: Connection, token_hash: str) -> str | None:
    mine = select(refresh_tokens.c.user_id).where(refresh_tokens.c.token_hash == token_hash)
    return conn.execute(mine).scalar()


def rotate_refresh(
    conn: Connection, token_hash: str, new_hash: str, now: int, expires_at: int
) -> RefreshResult:
    row = conn.execute(
        select(
            refresh_tokens.c.user_id,
            refresh_tokens.c.device_id,
            refresh_tokens.c.expires_at,
            refresh_tokens.c.used_at,
            devices.c.revoked_at,
        )
        .join(devices, devices.c.device_id == refresh_tokens.c.device_id)
        .where(refresh_tokens.c.token_hash == token_hash)
    ).first()
    if row is None:
        return RefreshResult(RefreshOutcome.UNKNOWN)
    user_id, device_id, expires, used_at, revoked_at = row
    if used_at is not None:
        revoke_devices(conn, user_id, [device_id], now)
        return RefreshResult(RefreshOutcome.REUSED, user_id, device_id)
    if revoked_at is not None:
        return RefreshResult(RefreshOutcome.REVOKED, user_id, device_id)
    if expires <= now:
        return RefreshResult(RefreshOutcome.EXPIRED, user_id, device_id)
    tokens = refresh_tokens.c
    conn.execute(update(refresh_tokens).where(tokens.token_hash == token_hash).values(used_at=now))
    # What has expired can no longer be reused: a device keeps no more tokens than it uses in their life-time.
    conn.execute(delete(refresh_tokens).where(tokens.device_id == device_id, tokens.expires_at <= now))
    put_refresh(conn, new_hash, user_id, device_id, expires_at)
    touch_device(conn, device_id, now)
    return RefreshResult(RefreshOutcome.ROTATED, user_id, device_id)


class SqlDevices:
    _db: Runner

    async def add_device(
        self, device: Device, devices_max: int | None = None, password_hash: str | None = None
    ) -> list[str]:
        return await self._db.write(
            lambda conn: add_device(conn, device, devices_max, password_hash),
            about=[f"device {device.device_id}", f"devices {device.user_id}"],
        )

    async def touch_device(self, device_id: str, at: int) -> None:
        await self._db.write(lambda conn: touch_device(conn, device_id, at))

    async def devices(self, user_id: str) -> list[Device]:
        return await self._db.look(lambda conn: list_devices(conn, user_id))

    async def device(self, device_id: str) -> Device | None:
        return await self._db.look(lambda conn: find_device(conn, device_id))

    async def live_devices(self, device_ids: Sequence[str]) -> set[str]:
        return await self._db.look(lambda conn: live_devices(conn, device_ids)) if device_ids else set()

    async def rename_device(self, user_id: str, device_id: str, name: str) -> bool:
        return await self._db.write(lambda conn: rename_device(conn, user_id, device_id, name))

    async def revoke_devices(self, user_id: str, device_ids: Sequence[str] | None, at: int) -> list[str]:
        return await self._db.write(
            lambda conn: revoke_devices(conn, user_id, device_ids, at), about=[f"devices {user_id}"]
        )

    async def put_refresh(self, token_hash: str, user_id: str, device_id: str, expires_at: int) -> None:
        await self._db.write(lambda conn: put_refresh(conn, token_hash, user_id, device_id, expires_at))

    async def rotate_refresh(
        self, token_hash: str, new_hash: str, now: int, expires_at: int
    ) -> RefreshResult:
        # Whose it is never changes, so it can be asked before. Who logs in on the device meanwhile ends its tokens:
        # the new one, too.
        user_id = await self._db.look(lambda conn: user_of_token(conn, token_hash))
        if user_id is None:
            return RefreshResult(RefreshOutcome.UNKNOWN)
        return await self._db.write(
            lambda conn: rotate_refresh(conn, token_hash, new_hash, now, expires_at),
            about=[f"devices {user_id}"],
        )
