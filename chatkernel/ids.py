"""The random ids of people, devices and channels, and the clock that ids are made by."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import NewType

UserId = NewType("UserId", str)
DeviceId = NewType("DeviceId", str)
ChannelId = NewType("ChannelId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

NowMs = Callable[[], int]
"""A clock: Unix time in milliseconds."""


def now_ms() -> int:
    """Unix time in milliseconds from the system clock."""
    return time.time_ns() // 1_000_000


def _token(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_user_id() -> UserId:
    return UserId("u_" + _token(16))


def new_device_id() -> DeviceId:
    return DeviceId("d_" + _token(16))


def group_id(region: str, creator_id: str, client_id: str) -> ChannelId:
    """A group's id follows from who asked for it and under which id, so that asking again gives the same group.

    It begins with the home region, so that a store's zones can keep its data near.
    """
    digest = hashlib.blake2b(f"{creator_id}\n{client_id}".encode(), digest_size=12).hexdigest()
    return ChannelId(f"{region}_g{digest}")


def direct_channel_id(region: str, a: UserId, b: UserId) -> ChannelId:
    """The id of the channel of a pair: the same from both sides, so that opening it twice gives one channel.

    `region` is the cluster's home region, fixed for its life.
    """
    first, second = sorted((a, b))
    digest = hashlib.blake2b(f"{first}\n{second}".encode(), digest_size=12).hexdigest()
    return ChannelId(f"{region}_p{digest}")


def is_direct(channel_id: str) -> bool:
    return channel_id.partition("_")[2].startswith("p")


def new_client_msg_id() -> str:
    return _token(20)
