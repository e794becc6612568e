"""The one seam to Redis: connecting, sending a batch of commands, scripts by digest, and translating
errors."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from chatkernel.errors import ChatError, Code
from chatkernel.redis_link import Argument, Command, Link

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
"""A batch that is not answered within this has failed; its outcome is unknown."""

POOL_CONNECTIONS_MAX = 16
"""For calls by the library's own methods; `execute` needs one connection, and one more to wait on."""


class Client(Redis):
    """The library's client, with a shared link for `execute` and one more for calls that wait in Redis."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self.link = Link(pool.make_connection)
        self.waiting_link = Link(pool.make_connection)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.link.aclose()
        await self.waiting_link.aclose()
        await super().aclose(True if close_connection_pool is None else close_connection_pool)


def connect(url: str) -> Redis:
    """A client of redis://, rediss:// or unix://. Connects at first use, and by itself after an outage; a
    failed call is not repeated, because its caller knows better what is still worth sending."""
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=POOL_CONNECTIONS_MAX,
        timeout=SOCKET_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        protocol=2,
        **keepalive,
    )
    return Client(pool)


class _Guard:
    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RedisError | OSError):
            raise ChatError(Code.REDIS_UNAVAILABLE) from error


_GUARD = _Guard()


def guard() -> _Guard:
    """`with guard():` raises ChatError(REDIS_UNAVAILABLE) from what the client library or the network
    raised."""
    return _GUARD


async def execute(
    redis: Redis,
    commands: Sequence[Command],
    timeout_s: float = SOCKET_TIMEOUT_S,
    *,
    waiting: bool = False,
) -> list[Any]:
    """Send the commands together and read their replies (bytes, int, list or None), one per command.

    `waiting`: a command waits in Redis by itself (BLOCK); such calls have a connection of their own and go
    one after the other. Raises ChatError(REDIS_UNAVAILABLE) when Redis does not answer in time or refuses any
    of them: which took effect is unknown.
    """
    link = _link(redis, waiting)
    with guard():
        if timeout_s >= SOCKET_TIMEOUT_S:
            return _checked(await link.call(commands, timeout_s))
        # An impatient caller gives up alone: the others' calls on the link are none of its business.
        async with asyncio.timeout(timeout_s):
            return _checked(await link.call(commands, SOCKET_TIMEOUT_S))


def _link(redis: Redis, waiting: bool = False) -> Link:
    if not isinstance(redis, Client):
        raise TypeError("a client made by chatkernel.redis_client.connect is needed")
    return redis.waiting_link if waiting else redis.link


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies


class Script:
    """A file of `lua/`, run by its digest; Redis is sent the text only when it does not have it."""

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
    with guard():
        link = _link(redis)
        by_digest: list[Command] = [("EVALSHA", call.script.digest, *call.arguments) for call in calls]
        replies = await link.call(by_digest, SOCKET_TIMEOUT_S)
        # A script that is not there has not run: those, and only those, are sent again with their text.
        missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            by_text: list[Command] = [("EVAL", calls[i].script.source, *calls[i].arguments) for i in missing]
            for index, reply in zip(missing, await link.call(by_text, SOCKET_TIMEOUT_S), strict=True):
                replies[index] = reply
        return _checked(replies)
