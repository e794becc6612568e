"""One keep-alive HTTP/1.1 connection to one pod: all that probing several pods twice a second needs.

A general client costs ten times the CPU for this. It understands answers with a Content-Length, which is what
our services give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

HEAD_MAX_BYTES = 16 * 1024
BODY_MAX_BYTES = 4 * 1024 * 1024
NOT_HTTP = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError)


class Answer(Struct, frozen=True):
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; {} for anything else."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return {}


class PodHttp:
    """Not for concurrent use: a lock makes requests wait for each other."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        timeout_s: float = 1.0,
    ) -> Answer:
        """`body` is sent as JSON. Raises OSError (TimeoutError is one); the connection is then a new one."""
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._exchange(method, path, headers or {}, body)
            except BaseException as error:
                self.close()
                if isinstance(error, NOT_HTTP):
                    raise ConnectionError(f"{self.host}:{self.port}: no HTTP answer") from error
                raise

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None

    async def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: object) -> Answer:
        if self._stream is None or self._stream[0].at_eof():
            self.close()
            self._stream = await asyncio.open_connection(self.host, self.port, limit=HEAD_MAX_BYTES)
        reader, writer = self._stream
        payload = b"" if body is None else msgspec.json.encode(body)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if payload:
            lines.append("Content-Type: application/json")
        if payload or method != "GET":
            lines.append(f"Content-Length: {len(payload)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *rest = head.split("\r\n")
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
        }
        length = int(fields.get("content-length", "0"))
        if length > BODY_MAX_BYTES:
            raise ValueError("answer too large")
        content = await reader.readexactly(length) if length else b""
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status_line.split(" ", 2)[1]), content)
