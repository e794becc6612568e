"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit


class RawHttp:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> RawHttp:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def pour(self, piece: bytes, total_bytes: int) -> int:
        """Send as long as the other side takes it, up to so many bytes: how many were sent."""
        sent = 0
        try:
            while sent < total_bytes:
                await asyncio.wait_for(self.send(piece), 5)
                sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
        return sent

    async def answer(self, within_s: float = 10.0) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        async with asyncio.timeout(within_s):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {}
            for line in head[1:-2]:
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def refusal(self, status: int, code: str, within_s: float = 10.0) -> dict[str, Any]:
        """The answer, checked to be the last one of the connection and a problem document of this kind."""
        found, headers, body = await self.answer(within_s)
        document: dict[str, Any] = json.loads(body)
        assert headers["content-type"] == "application/problem+json"
        assert (found, document["status"], document["code"]) == (status, status, code)
        assert headers["connection"] == "close" and document["field"]
        await self.ends()
        return document

    async def ends(self, within_s: float = 10.0) -> None:
        """The server closes; nothing more comes."""
        async with asyncio.timeout(within_s):
            with suppress(ConnectionError):
                assert await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()
