"""Opens connections with the client library: logged in, by TLS where asked for, at the primary under Sentinels."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from chatkernel.addresses import Address
from chatkernel.redis_url import RedisUrl

CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 1.0
"""For what is asked while connecting: log in, role."""

SENTINELS_WAIT_S = 0.5
"""How long all Sentinels are waited for: those that have answered by then decide, or else the first that does."""


async def open_server(url: RedisUrl, address: Address | None) -> AbstractConnection:
    """Raises redis.exceptions.RedisError or OSError."""
    return await _open(url.server_at(address))


async def open_primary(url: RedisUrl) -> AbstractConnection:
    """A connection to the server that the Sentinels call the primary and that calls itself one.

    Raises redis.exceptions.RedisError or OSError: while a failover is under way there may be none.
    """
    address = await _ask_sentinels(url)
    connection = await open_server(url, address)
    try:
        await connection.send_command("ROLE")
        role: Any = await connection.read_response()
        if role[0] != b"master":
            # A Sentinel that has not heard of a failover, or a primary that has been told to follow another.
            raise RedisConnectionError(f"{address} is no primary (yet, or any more)")
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _ask_sentinels(url: RedisUrl) -> Address:
    """What most of those say who answer: one that was cut off may still name the primary of before."""
    asked = [asyncio.create_task(_ask_sentinel(url, address), name="sentinel") for address in url.hosts]
    try:
        _, late = await asyncio.wait(asked, timeout=SENTINELS_WAIT_S)
        while late and not _named(asked):
            _, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
        found = [task.result() for task in asked if task.done()]
        named = _named(asked)
    finally:
        for task in asked:
            task.cancel()
    if not named:
        error = next((answer for answer in found if isinstance(answer, Exception)), None)
        raise RedisConnectionError(f"no Sentinel names a primary of {url.service}") from error
    return named.most_common(1)[0][0]


def _named(asked: Sequence[asyncio.Task[Address | Exception | None]]) -> Counter[Address]:
    answers = [task.result() for task in asked if task.done()]
    return Counter(answer for answer in answers if isinstance(answer, Address))


async def _ask_sentinel(url: RedisUrl, sentinel: Address) -> Address | Exception | None:
    """The error when it cannot be asked; None when it knows no such service."""
    try:
        connection = await _open(url.sentinel_at(sentinel))
        try:
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
            reply = cast("Sequence[bytes] | None", await connection.read_response())
        finally:
            await connection.disconnect(nowait=True)
    except (RedisError, OSError) as error:
        return error
    return Address(reply[0].decode(), int(reply[1])) if reply else None


async def _open(url: str) -> AbstractConnection:
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.pop("connection_class", Connection)
    if "path" not in options:
        options["socket_keepalive"] = True
    connection: AbstractConnection = kind(
        **options,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        protocol=2,
    )
    await cast(Any, connection).connect()
    return connection
