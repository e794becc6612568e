"""The HTTP transport: connections are kept, waiting requests get their turn, broken ones are errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from chatclient.http import new_http


class Server:
    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        self.close_after = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.answer)
                await writer.drain()
                if self.close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


async def test_many_requests_share_few_kept_connections() -> None:
    async with serving() as (server, url), new_http(4) as http:
        answers = await asyncio.gather(*(http.post(url, json={"n": n}) for n in range(50)))
        assert {answer.text for answer in answers} == {"ok"}
        assert server.connections <= 4 and len(server.requests) == 50
        assert sorted(request[-8:] for request in server.requests)[0].endswith(b'{"n":0}')


async def test_a_connection_that_the_server_closed_is_replaced() -> None:
    async with serving() as (server, url), new_http(1) as http:
        server.close_after = True
        for _ in range(3):
            assert (await http.get(url)).status_code == 200
        assert server.connections == 3


async def test_chunked_and_closing_answers_are_read() -> None:
    async with serving() as (server, url), new_http(1) as http:
        server.answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        assert (await http.get(url)).text == "ok"
        server.answer = b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        assert (await http.get(url)).status_code == 503


async def test_what_is_no_http_and_nobody_there_are_transport_errors() -> None:
    async with serving() as (server, url), new_http(1) as http:
        server.answer = b"SSH-2.0-OpenSSH\r\n\r\n"
        with pytest.raises(httpx.TransportError):
            await http.get(url)
    async with new_http(1) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("http://127.0.0.1:9")
