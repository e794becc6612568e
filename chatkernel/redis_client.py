"""The one seam to Redis: connecting, sending a batch of commands, scripts by digest, and translating
errors."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple, Protocol, Self

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from chatkernel.errors import ChatError, Code
from chatkernel.redis_cluster import Shards
from chatkernel.redis_connect import open_primary, open_server
from chatkernel.redis_link import Argument, Command, Link, is_of_the_server
from chatkernel.redis_url import RedisUrl, Topology, parse_redis_url

SOCKET_TIMEOUT_S = 2.0
"""A batch that is not answered within this has failed; its outcome is unknown."""


SCAN_COUNT = 1_000
"""Members per step of a scan."""


class _Servers(Protocol):
    """However many there are."""

    async def call(self, commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
        """Raises redis.exceptions.RedisError or OSError when nothing can be asked; a command that failed alone is
        one of these among the replies."""
        ...

    def failed_at(self, key: str) -> float:
        """The last time that the server of a key did not answer, took no writes, or broke the connection off
        (monotonic, seconds)."""
        ...

    @property
    def losses(self) -> int:
        """Connections that were lost, except those for calls that wait. Whoever has the data now may not have what
        was written last."""
        ...

    async def aclose(self) -> None: ...


class _OneServer:
    """One at a time: the only one, or whichever is the primary."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._link, self._waiting_link = Link(self._open), Link(self._open)
        self._failed_at = -math.inf

    async def call(self, commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
        try:
            replies = await (self._waiting_link if waiting else self._link).call(commands, timeout_s)
        except (RedisError, OSError):
            self._failed_at = time.monotonic()
            raise
        if any(isinstance(reply, Exception) and is_of_the_server(reply) for reply in replies):
            self._failed_at = time.monotonic()
        return replies

    def failed_at(self, key: str) -> float:
        return max(self._failed_at, self._link.lost_at)

    @property
    def losses(self) -> int:
        return self._link.losses

    async def aclose(self) -> None:
        await self._link.aclose()
        await self._waiting_link.aclose()

    async def _open(self) -> AbstractConnection:
        if self._url.topology is Topology.SENTINEL:
            return await open_primary(self._url)
        return await open_server(self._url, next(iter(self._url.hosts), None))


class Redis:
    """What callers hold, and give to `execute` and `run_scripts`. Connects at first use, and by itself after an
    outage, to whoever has the data by then; a failed call is not repeated, because its caller knows better what is
    still worth sending."""

    def __init__(self, url: RedisUrl) -> None:
        self._servers: _Servers = (
            Shards(url.hosts, lambda address: open_server(url, address))
            if url.topology is Topology.CLUSTER
            else _OneServer(url)
        )
        self.call, self.failed_at = self._servers.call, self._servers.failed_at

    @property
    def losses(self) -> int:
        """As of `_Servers`."""
        return self._servers.losses

    async def aclose(self) -> None:
        await self._servers.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def connect(url: str) -> Redis:
    """A client of what `redis_url` describes; it connects at first use. Raises RedisUrlError."""
    return Redis(parse_redis_url(url))


async def execute(
    redis: Redis,
    commands: Sequence[Command],
    timeout_s: float = SOCKET_TIMEOUT_S,
    *,
    waiting: bool = False,
) -> list[Any]:
    """Send the commands together and read their replies (bytes, int, list or None), one per command. Those on one
    key take effect in order; in a cluster those on different keys may not.

    `waiting`: a command waits in Redis by itself (BLOCK); such calls have a connection of their own and go
    one after the other. Raises ChatError(REDIS_UNAVAILABLE) when Redis does not answer in time or refuses any
    of them: which took effect is unknown.
    """
    if timeout_s >= SOCKET_TIMEOUT_S:
        return _checked(await _replies(redis, commands, timeout_s, waiting=waiting))
    # An impatient caller gives up alone: the others' calls on the link are none of its business.
    try:
        async with asyncio.timeout(timeout_s):
            return _checked(await _replies(redis, commands, SOCKET_TIMEOUT_S, waiting=waiting))
    except TimeoutError as error:
        raise ChatError(Code.REDIS_UNAVAILABLE) from error


async def execute_each(redis: Redis, commands: Sequence[Command]) -> list[Any]:
    """As `execute`, for commands that have nothing to do with each other: in a cluster one node may be away, and what
    is on the others is answered. Never raises: ChatError(REDIS_UNAVAILABLE) is in the place of each reply that is
    missing."""
    return _separate(await _replies(redis, commands, SOCKET_TIMEOUT_S))


async def scan(redis: Redis, command: Literal["SSCAN", "ZSCAN"], key: str) -> AsyncIterator[list[bytes]]:
    """What is in a set (members) or sorted set (members and scores), in steps that hold nobody up. What is there
    from beginning to end is found, perhaps twice. Raises ChatError(REDIS_UNAVAILABLE)."""
    cursor = b"0"
    while True:
        ((cursor, found),) = await execute(redis, [(command, key, cursor, "COUNT", SCAN_COUNT)])
        yield found
        if cursor == b"0":
            return


async def _replies(
    redis: Redis, commands: Sequence[Command], timeout_s: float, *, waiting: bool = False
) -> list[Any]:
    """With the client library's or the network's errors among them."""
    try:
        return await redis.call(commands, timeout_s, waiting=waiting)
    except (RedisError, OSError) as error:
        return [error] * len(commands)


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise ChatError(Code.REDIS_UNAVAILABLE) from reply
    return replies


def _separate(replies: list[Any]) -> list[Any]:
    return [_unavailable(reply) if isinstance(reply, Exception) else reply for reply in replies]


def _unavailable(cause: Exception) -> ChatError:
    error = ChatError(Code.REDIS_UNAVAILABLE)
    error.__cause__ = cause
    return error


class Script:
    """A file of `lua/`, run by its digest; Redis is sent the text only when it does not have it.

    Each begins with `#!lua` and no flags: a Redis that takes no writes (full, a replica, its disk in trouble) refuses
    it, be it only to read. Leases that nobody can renew would be read as people and pods that are gone.
    """

    def __init__(self, name: str) -> None:
        self.source = resources.files("chatkernel").joinpath("lua", f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Argument]) -> ScriptCall:
        return ScriptCall(self, (len(keys), *keys, *args))


class ScriptCall(NamedTuple):
    """A script with its keys and arguments, to be run with others in one batch."""

    script: Script
    arguments: Command


async def run_scripts(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run the scripts in one batch; one reply each. Raises ChatError(REDIS_UNAVAILABLE) as `execute`."""
    return _checked(await _run(redis, calls))


async def run_scripts_each(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """As `execute_each`."""
    return _separate(await _run(redis, calls))


async def _run(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    by_digest: list[Command] = [("EVALSHA", call.script.digest, *call.arguments) for call in calls]
    replies = await _replies(redis, by_digest, SOCKET_TIMEOUT_S)
    # A script that is not there has not run: those, and only those, are sent again with their text.
    missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        by_text: list[Command] = [("EVAL", calls[i].script.source, *calls[i].arguments) for i in missing]
        texts = await _replies(redis, by_text, SOCKET_TIMEOUT_S)
        for index, reply in zip(missing, texts, strict=True):
            replies[index] = reply
    return replies


_WRITES = Script("takes_writes")


async def check_takes_writes(redis: Redis) -> None:
    """Raises ChatError(REDIS_UNAVAILABLE) unless every server answers, and has room."""
    await run_scripts(redis, [_WRITES.call((), ())])
