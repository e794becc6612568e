"""A Redis that a person gave by its URL: whether it can be used, and that one cluster of a name uses it at a time."""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_url import parse_redis_url
from chatoperator.datadir import UpError
from chatoperator.embedded import OLDEST_REDIS

log = logging.getLogger(__name__)

OWNER_LEASE_S = 15.0
"""A cluster that was killed holds its name in Redis for this long. Its own data directory need not wait."""


class Owner(Struct, frozen=True):
    """The data directory whose cluster has the keys of a name. Two that share them would undo each other's work.

    A copied directory has the same `id` and is another all the same: `where` is part of it."""

    id: str
    where: str


_decoder = msgspec.json.Decoder(Owner)


def shown(url: str) -> str:
    """Where it is, without its password."""
    return parse_redis_url(url).shown


async def check_version(redis: Redis, url: str) -> None:
    """Raises UpError when the given Redis cannot be used."""
    where = shown(url)
    try:
        (info,) = await execute(redis, [("INFO", "server")])
    except ChatError as error:
        raise UpError(f"Redis at {where} cannot be used: {error.__cause__ or error}") from error
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    version = fields.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise UpError(f"Redis at {where} is {version}: 7.0 or newer is needed")


class Claim:
    """The cluster's name in a Redis that others may use, too. Leased: it has to be renewed."""

    def __init__(self, redis: Redis, keys: Keys, me: Owner, lease_s: float = OWNER_LEASE_S) -> None:
        self._redis, self._key, self._me = redis, keys.owner, me
        self._lease_ms = int(lease_s * 1000)
        self._is_contested = False

    async def take(self, cluster: str, url: str) -> None:
        """Raises UpError when another data directory has the name."""
        try:
            other = await self._renew()
        except ChatError as error:
            raise UpError(f"Redis at {shown(url)} cannot be used: {error.__cause__ or error}") from error
        if other is not None:
            raise UpError(
                f"Redis at {shown(url)} is used by another cluster that is called {cluster} ({other.where}): "
                "give this one another metadata.name, or another Redis. If that one was killed, its name is free "
                f"after {self._lease_ms / 1000:g} s"
            )

    async def renew(self) -> None:
        """Again after a loss of everything in Redis, too. Raises ChatError(REDIS_UNAVAILABLE)."""
        other = await self._renew()
        if other is not None and not self._is_contested:
            # It came while this one could not renew. Ending would help nobody here: a person has to choose.
            log.error("another cluster of this name uses this Redis: stop one", extra={"error": other.where})
        self._is_contested = other is not None

    async def release(self) -> None:
        """So that a start from another directory need not wait."""
        try:
            (held,) = await execute(self._redis, [("GET", self._key)], 1.0)
            if held is not None and _owner(held) == self._me:
                await execute(self._redis, [("DEL", self._key)], 1.0)
        except (ChatError, TimeoutError):
            pass  # it ends by itself

    async def _renew(self) -> Owner | None:
        """The other one that has it.

        Between the two commands the lease may end and another take the name: it then has a longer lease, and finds
        itself named at its own next renewal."""
        value = msgspec.json.encode(self._me)
        (held,) = await execute(
            self._redis, [("SET", self._key, value, "NX", "GET", "PX", str(self._lease_ms))]
        )
        if held is None:
            return None
        owner = _owner(held)
        if owner != self._me:
            return owner
        await execute(self._redis, [("PEXPIRE", self._key, str(self._lease_ms))])
        return None


def _owner(held: bytes) -> Owner:
    try:
        return _decoder.decode(held)
    except msgspec.DecodeError:
        return Owner("", "unknown")
