"""A small HTTP/1.1 transport for httpx: kept-alive connections on asyncio itself.

httpx's own transport spends milliseconds of a request in its pool when hundreds are waiting, as when all
clients of a process come back at once after a pod has died. Used for `http://` only; TLS goes by httpx's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools
import httpx

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0


class _Connection(asyncio.Protocol):
    """One request at a time. `reusable` after a complete answer that the server did not close."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[httpx.Response] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def exchange(self, data: bytes, method: str) -> httpx.Response:
        """Raises httpx.TransportError."""
        if self.transport is None or self.transport.is_closing():
            raise httpx.ReadError("the connection was closed")
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body = [], []
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._answer
        except TimeoutError as error:
            self.close()
            raise httpx.ReadTimeout(f"no answer to {method} in {READ_TIMEOUT_S:g} s") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(f"not HTTP: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail(httpx.ReadError(f"the connection broke ({exc or 'closed'})"))

    def _fail(self, error: httpx.TransportError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # its waiter may be gone

    # --- for the parser ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._answer is None or self._answer.done():
            return
        self.reusable = bool(self._parser.should_keep_alive())
        status = self._parser.get_status_code()
        # The body is as it was sent: we ask for no compression.
        content = b"".join(self._body)
        self._answer.set_result(httpx.Response(status, headers=self._headers, content=content))


class PlainTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` per origin; whoever waits gets the next one that is free, in order."""

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._pools: dict[tuple[str, int], _Pool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError."""
        origin = (request.url.host, request.url.port or 80)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(*origin, self._max_connections)
        return await pool.exchange(_encode(request), request.method)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            pool.close()


class _Pool:
    def __init__(self, host: str, port: int, max_connections: int) -> None:
        self._host, self._port = host, port
        self._idle: deque[_Connection] = deque()
        self._gate = asyncio.Semaphore(max_connections)

    async def exchange(self, data: bytes, method: str) -> httpx.Response:
        async with self._gate:
            while True:
                connection, fresh = await self._connection()
                try:
                    answer = await connection.exchange(data, method)
                except httpx.ReadError:
                    # The server may have closed a kept connection while our request was on its way to it. What may
                    # be done twice is tried again at once; of the rest only the caller knows.
                    if fresh or method not in _SAFE:
                        raise
                    continue
                if connection.reusable:
                    self._idle.append(connection)
                else:
                    connection.close()
                return answer

    async def _connection(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection, False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await asyncio.get_running_loop().create_connection(
                    _Connection, self._host, self._port
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError(error.strerror or str(error)) from error
        return made, True

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


_SAFE = frozenset({"GET", "PUT", "DELETE", "HEAD"})


def _encode(request: httpx.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content
