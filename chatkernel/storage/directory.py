"""The ports for general data: accounts, devices and their tokens, friends, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from chatkernel.storage.model import (
    Credentials,
    Device,
    FriendAction,
    FriendChange,
    FriendPage,
    RefreshResult,
    User,
    UserSettings,
)


class Accounts(Protocol):
    async def create_user(self, user: User, password_hash: str) -> None:
        """Raises ChatError(USERNAME_TAKEN). User names are unique without regard to case, and never given again."""

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]: ...

    async def user_by_name(self, username: str) -> User | None: ...

    async def credentials(self, username: str) -> Credentials | None: ...

    async def set_password(self, user_id: str, password_hash: str, expected: str | None = None) -> bool:
        """Whether it was set: with `expected` only in place of that hash. Raises ChatError(USER_NOT_FOUND)."""

    async def set_suspended(self, user_id: str, suspended: bool) -> None: ...

    async def update_profile(
        self, user_id: str, *, display_name: str | None, about: str | None, avatar_url: str | None
    ) -> User:
        """Raises ChatError(USER_NOT_FOUND)."""

    async def touch_active(self, last_active_at: dict[str, int]) -> None:
        """User id to Unix ms; only forward."""

    async def user_of_subject(self, issuer: str, subject: str, new: User) -> User:
        """The account of a person of an issuer of their own, made from `new` at first sight (idempotent; a taken
        user name gets a suffix). Raises ChatError(ACCOUNT_ERASED) for a while after the person's erasure."""


class Devices(Protocol):
    async def add_device(
        self, device: Device, devices_max: int | None = None, password_hash: str | None = None
    ) -> list[str]:
        """Insert, or revive the person's own revoked device of that id. If they have more than `devices_max` then,
        those unseen for longest are revoked: their ids. Raises ChatError(CONFLICT) when the id is another person's,
        and ChatError(WRONG_CREDENTIALS) when `password_hash` is given and is no longer the account's."""

    async def touch_device(self, device_id: str, at: int) -> None:
        """It was seen."""

    async def devices(self, user_id: str) -> list[Device]:
        """Those not revoked, newest first."""

    async def device(self, device_id: str) -> Device | None: ...

    async def live_devices(self, device_ids: Sequence[str]) -> set[str]:
        """Those that exist, are not revoked and whose account is not suspended."""

    async def rename_device(self, user_id: str, device_id: str, name: str) -> bool: ...

    async def revoke_devices(self, user_id: str, device_ids: Sequence[str] | None, at: int) -> list[str]:
        """Revoke these (None: all) devices of the person and their refresh tokens; the ids that were live."""

    async def put_refresh(self, token_hash: str, user_id: str, device_id: str, expires_at: int) -> None: ...

    async def rotate_refresh(
        self, token_hash: str, new_hash: str, now: int, expires_at: int
    ) -> RefreshResult:
        """Use a token once, atomically: mark it used and store its successor. REUSED also revokes the device."""


class People(Protocol):
    async def friend_action(
        self, user_id: str, other_id: str, action: FriendAction, at: int, friends_max: int | None = None
    ) -> FriendChange:
        """Apply, idempotently. REQUEST when the other has asked already is ACCEPT. Raises ChatError(USER_NOT_FOUND),
        ChatError(BLOCKED) when the other has blocked the person (or the person the other, for REQUEST),
        ChatError(NOT_FOUND) for ACCEPT without a request, and ChatError(LIMIT_REACHED) for more than `friends_max`
        friends and requests of the person, requests that wait for the other, or people that the person blocks."""

    async def friends(self, user_id: str, cursor: str | None = None, limit: int = 1000) -> FriendPage:
        """Raises ChatError(INVALID_FIELD) for a cursor that no page gave."""

    async def friend_ids(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """Accepted friends only."""

    async def blocked_between(self, a: str, b: str) -> bool:
        """Whether either has blocked the other."""

    async def blocked_channels(self, channel_ids: Sequence[str]) -> set[str]:
        """Those of these 1:1 channels where either has blocked the other."""

    async def blockers(self, user_id: str, among: Sequence[str]) -> set[str]:
        """Those of these people who have blocked the person."""

    async def blocked_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """Whom each of these people has blocked. Each id is in the answer."""

    async def settings(self, user_id: str) -> UserSettings: ...

    async def put_settings(
        self, user_id: str, values: dict[str, Any], expected_version: int | None
    ) -> UserSettings | None:
        """Replace; None when `expected_version` is given and is not the present one."""
