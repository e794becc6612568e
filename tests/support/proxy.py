"""A wire between a client and a server that can be made slow, or cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 64 * 1024


class Proxy:
    """Passes bytes on in both directions; what the server sends arrives `delay_s` later."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._to, self.delay_s = port, delay_s
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.port = 0
        self.loses_replies = False
        """What the server sends does not arrive."""

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        for work in (self._pass(reader, to_writer, 0.0), self._back(to_reader, writer)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._pass(reader, writer, self.delay_s, is_back=True)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        delay_s: float,
        *,
        is_back: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(CHUNK_BYTES):
                if is_back and self.loses_replies:
                    continue
                if delay_s:
                    loop.call_later(delay_s, writer.write, data)
                else:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            loop.call_later(delay_s, writer.close)

    async def aclose(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def proxy_to(port: int, delay_s: float = 0.0) -> AsyncIterator[Proxy]:
    proxy = Proxy(port, delay_s)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
