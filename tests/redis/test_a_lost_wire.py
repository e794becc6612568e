"""A connection that breaks off between being made and being used."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from support.valkey import Valkey, redis_client

from chatkernel.redis_client import execute
from chatkernel.redis_connect import open_server
from chatkernel.redis_link import Link
from chatkernel.redis_url import parse_redis_url


async def test_a_call_on_it_fails_and_does_not_wait_for_ever(valkey: Valkey) -> None:
    """What the server says unasked is read as soon as the link has the connection, before the caller has."""
    url = parse_redis_url(valkey.url)

    async def opened() -> AbstractConnection:
        connection = await open_server(url, url.hosts[0])
        await connection.send_command("SUBSCRIBE", "news")
        await connection.read_response()
        transport = cast(asyncio.StreamWriter, connection._writer).transport
        cast(asyncio.ReadTransport, transport).pause_reading()
        async with redis_client(valkey.url) as other:
            assert await execute(other, [("PUBLISH", "news", "unasked")]) == [1]
        await asyncio.to_thread(arrived, transport.get_extra_info("socket").fileno())
        return connection

    link = Link(opened)
    async with asyncio.timeout(5):
        with pytest.raises(RedisConnectionError):
            await link.call([("PING",)], 1.0)
    assert link.losses == 1
    await link.aclose()


def arrived(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as received:
        received.settimeout(5.0)
        assert received.recv(1, socket.MSG_PEEK)
