"""A wire between a client and a server that can be made slow, cut, or dead for some processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 64 * 1024
WAITING_MAX = 64
"""Chunks that wait in one direction; then the sender waits."""

Chunk = tuple[float, bytes]
"""When it may arrive (seconds of the loop), and what."""


class Proxy:
    """Passes bytes on in both directions; what the server sends arrives `delay_s` later, which may be changed."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._to, self.delay_s = port, delay_s
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._split_off: frozenset[int] = frozenset()
        self._whole = asyncio.Event()
        self._whole.set()
        self.connections = 0
        self.port = 0
        self.loses_replies = False
        """What the server sends does not arrive."""

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        for writer in list(self._writers):
            writer.transport.abort()

    def split(self, processes: Collection[int]) -> None:
        """Nothing passes between these processes and the server, as when a network falls in two: no connection
        is reset, and what is sent waits."""
        self._split_off = frozenset(processes)
        self._whole.clear()

    def join(self) -> None:
        """The network is whole again."""
        self._split_off = frozenset()
        self._whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        client = _inode(writer)
        self._pass(reader, to_writer, client, is_answer=False)
        self._pass(to_reader, writer, client, is_answer=True)

    def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str, *, is_answer: bool
    ) -> None:
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue(WAITING_MAX)
        for work in (self._take(reader, chunks, is_answer), self._give(chunks, writer, client)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(
        self, reader: asyncio.StreamReader, chunks: asyncio.Queue[Chunk | None], is_answer: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if is_answer and self.loses_replies:
                    continue
                await chunks.put((loop.time() + (self.delay_s if is_answer else 0.0), data))
        await chunks.put(None)

    async def _give(
        self, chunks: asyncio.Queue[Chunk | None], writer: asyncio.StreamWriter, client: str
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while chunk := await chunks.get():
                due, data = chunk
                await asyncio.sleep(due - loop.time())
                if not self._whole.is_set() and _owns(self._split_off, client):
                    await self._whole.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

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


def _inode(writer: asyncio.StreamWriter) -> str:
    """By which the kernel (Linux) names the client's end; "" when it is gone or cannot be told."""
    (_, own), (_, other) = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return ""
    ends = (f"{other:04X}", f"{own:04X}")
    return next((row[9] for row in rows if (row[1][-4:], row[2][-4:]) == ends), "")


def _owns(processes: Collection[int], inode: str) -> bool:
    for pid in processes:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{number}") == f"socket:[{inode}]":
                        return True
    return False
