"""A wire between a store's clients and its server, on which things go wrong: cut, still, slow, or some requests fail.

Unlike a proxy that only passes bytes on, these know where a request begins: what fails is a whole request, before it
was done, or after, with the answer lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count, cycle

import bson
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import HEADER, HEADER_BYTES, OP_MSG, Document, Request, decode, encode_answer

CHUNK_BYTES = 64 * 1024
WAITING_MAX = 64
"""Chunks under way in one direction; then the sender waits."""


@dataclass(slots=True, eq=False)
class Pair:
    """One client's connection and the one behind it."""

    client_reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server: asyncio.StreamWriter
    lose_answer: bool = False
    requests: int = 0

    def reset(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Wire:
    """`delay_s` and `fails_every` may be changed at any time; 0: not at all."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port, self._to = 0, (host, port)
        self._flows = asyncio.Event()
        self._flows.set()
        self.delay_s = 0.0
        self.fails_every = 0
        self.failed = 0
        self._requests = count(1)
        self._is_cut = False
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Reset every connection, and each that is tried from now on."""
        self._is_cut = True
        for pair in list(self._pairs):
            pair.reset()

    def mend(self) -> None:
        self._is_cut = False

    def freeze(self) -> None:
        """Take what is sent, and pass nothing on, in neither direction."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            server_reader, server = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(reader, writer, server_reader, server)
        self._pairs.add(pair)
        work = [asyncio.create_task(self._ask(pair)), asyncio.create_task(self._answer(pair))]
        self._tasks.update(work)
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
        self._pairs.discard(pair)
        pair.reset()
        self._tasks.difference_update(work)

    async def aclose(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _is_to_fail(self) -> bool:
        if not self.fails_every or next(self._requests) % self.fails_every:
            return False
        self.failed += 1
        return True

    async def _ask(self, pair: Pair) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._pass_request(pair):
                await pair.server.drain()

    async def _pass_request(self, pair: Pair) -> bool:
        """Pass the next one on, or let it fail; False at the end."""
        data = await pair.client_reader.read(CHUNK_BYTES)
        await self._flows.wait()
        pair.server.write(data)
        return bool(data)

    async def _answer(self, pair: Pair) -> None:
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_MAX)

        async def give() -> None:
            while True:
                due_s, data = await chunks.get()
                await asyncio.sleep(due_s - loop.time())
                await self._flows.wait()
                pair.client.write(data)
                await pair.client.drain()

        giving = asyncio.create_task(give())
        try:
            with suppress(OSError):
                while data := await pair.server_reader.read(CHUNK_BYTES):
                    if pair.lose_answer:
                        pair.reset()
                        return
                    await chunks.put((loop.time() + self.delay_s, data))
        finally:
            giving.cancel()


class MongoWire(Wire):
    """What fails is a command on data, in one of the ways in which a server's may."""

    COMMANDS = frozenset({"insert", "update", "delete", "find", "aggregate", "findAndModify", "count"})
    WAYS = (
        ErrorCode.NOT_WRITABLE_PRIMARY,
        ErrorCode.MAX_TIME_MS_EXPIRED,
        ErrorCode.INTERNAL_ERROR,
        "before",
        ErrorCode.WRITE_CONFLICT,
        "after",
    )

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self._ways = cycle(self.WAYS)

    async def _pass_request(self, pair: Pair) -> bool:
        header = await pair.client_reader.readexactly(HEADER_BYTES)
        length, request_id, _, opcode = HEADER.unpack(header)
        payload = await pair.client_reader.readexactly(length - HEADER_BYTES)
        await self._flows.wait()
        if opcode == OP_MSG and self.fails_every:
            request = decode(request_id, opcode, payload)
            if next(iter(request.body), "") in self.COMMANDS and self._is_to_fail():
                return self._fail(pair, request, header + payload)
        pair.server.write(header + payload)
        return True

    def _fail(self, pair: Pair, request: Request, message: bytes) -> bool:
        way = next(self._ways)
        if isinstance(way, ErrorCode):
            answer: Document = CommandError(way, "the wire says so").answer()
            pair.client.write(encode_answer(request, bson.decode(bson.encode(answer)), 1))
            return True
        if way == "before":
            return False
        pair.lose_answer = True
        pair.server.write(message)
        return True


class PostgresWire(Wire):
    """What fails is the connection, before what was sent on it has arrived or after; errors are the server's own."""

    GREETING_CHUNKS = 12
    """A connection that is being made is let alone: that is another fault."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self._ways = cycle(("before", "after"))

    async def _pass_request(self, pair: Pair) -> bool:
        data = await pair.client_reader.read(CHUNK_BYTES)
        await self._flows.wait()
        pair.requests += 1
        if data and pair.requests > self.GREETING_CHUNKS and self._is_to_fail():
            if next(self._ways) == "before":
                return False
            pair.lose_answer = True
        pair.server.write(data)
        return bool(data)


@asynccontextmanager
async def wire_to(port: int, kind: type[Wire] = Wire, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Listens on a port of its own (`wire.port`) of this machine, for a server on this port of the host."""
    wire = kind(port, host)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.aclose()
