"""A server of ours that speaks MongoDB's protocol, and does what no server here can be made to do: fail on purpose.

It stores in memory, answers the documented commands that an adapter uses as documented, and refuses all others. A
test puts hooks before commands: `server.on("insert", reset_after(1))`. Ready-made hooks are in `faults`, replica sets
and shards in `topology`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from support.mongo.commands import COMMANDS
from support.mongo.commands.call import Call, Hook, Reset
from support.mongo.errors import RETRYABLE_WRITE, CommandError, ErrorCode
from support.mongo.login import Login, Users
from support.mongo.roles import Role, Standalone
from support.mongo.store import Store
from support.mongo.wire import BrokenMessage, Document, Request, encode_answer, read_request

OPEN_TO_ALL = frozenset({"hello", "saslStart", "saslContinue", "authenticate", "logout", "ping", "buildInfo"})
"""What needs no log-in."""

PREAMBLE = OPEN_TO_ALL - {"ping"} | {"endSessions"}
"""What a hook on `*` is not asked about: a driver's own doings, not an adapter's."""

COMMANDS_KEPT = 10_000
"""Of the last ones: a long run must not grow."""

ABORTIVE = struct.pack("ii", 1, 0)
"""Linger for no time: closing then resets."""

NAMES = {"isMaster": "hello", "ismaster": "hello", "buildinfo": "buildInfo", "findandmodify": "findAndModify"}
"""Other names of commands: hooks and the log know one."""


@dataclass(slots=True, eq=False)
class Hooked:
    """A hook that a test has put before a command."""

    hook: Hook
    times: int | None
    _server: ScriptedServer = field(repr=False)
    _name: str = ""
    seen: int = 0
    _reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self) -> None:
        """Until a command has come to the hook."""
        await self._reached.wait()

    def remove(self) -> None:
        hooks = self._server.hooks[self._name]
        if self in hooks:
            hooks.remove(self)

    def take(self) -> None:
        """Count a command; after the last one that it is for, the hook is gone."""
        self.seen += 1
        self._reached.set()
        if self.times is not None and self.seen >= self.times:
            self.remove()


class Connection:
    """One client's connection, and its log-in."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, users: Users) -> None:
        self.number = number
        self.writer = writer
        self._socket: socket.socket = writer.get_extra_info("socket")
        self.login = Login(users, _subject(writer))

    def described(self) -> Document:
        return {"connectionId": self.number}

    def reset(self) -> None:
        """End it without a word, as a crash does: the client sees a reset and not an orderly end."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
        self.writer.transport.abort()


def _subject(writer: asyncio.StreamWriter) -> str | None:
    """The subject of the client's certificate in the order in which MongoDB writes it, the last part first."""
    peer = writer.get_extra_info("peercert")
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
    if not peer:
        return None
    parts = [(short.get(name, name), value) for part in peer["subject"] for name, value in part]
    return ",".join(f"{name}={value}" for name, value in reversed(parts))


class ScriptedServer:
    """Listens on a port of its own; can be frozen, stopped, and started again on the same port with its store."""

    def __init__(
        self,
        *,
        role: Role | None = None,
        store: Store | None = None,
        users: Users | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.role: Role = role or Standalone()
        self.store = store or Store()
        self.users = users or Users()
        self.port = 0
        self.hooks: dict[str, list[Hooked]] = {}
        self.commands: deque[Document] = deque(maxlen=COMMANDS_KEPT)
        """The commands that came, hello and log-in left out, in order: for a test to see concerns and filters."""
        self.broadcasts: deque[Document] = deque(maxlen=COMMANDS_KEPT)
        """Commands on sharded collections that did not name the shard key."""
        self.mistakes: list[Exception] = []
        self._tls = tls
        self._listening: asyncio.Server | None = None
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For a client that talks to this one server, whatever it is part of."""
        return f"mongodb://{self.host}/?directConnection=true"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if killed, but the store stays: the port refuses, connections break off."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self.reset_connections()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self) -> None:
        """Fails when the server or a hook made a mistake."""
        if self.mistakes:
            raise AssertionError("the scripted server, or a hook, failed") from self.mistakes[0]

    def on(self, name: str, hook: Hook, *, times: int | None = None) -> Hooked:
        """Put a hook before a command, or before all that are the adapter's own (`*`), for so many times."""
        hooked = Hooked(hook, times, self, name)
        self.hooks.setdefault(name, []).append(hooked)
        return hooked

    def seen(self, name: str) -> list[Document]:
        """The commands of this name that came."""
        return [each for each in self.commands if NAMES.get(next(iter(each)), next(iter(each))) == name]

    def freeze(self) -> None:
        """From now on nothing is executed or answered, hello neither; connections are still taken by the kernel."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def reset_connections(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(next(self._numbers), writer, self.users)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(connection)
        try:
            if self._listening is None:
                raise Reset  # it was accepted, and then we were stopped
            while (request := await read_request(reader)) is not None:
                await self._thawed.wait()
                await self._serve(connection, request)
        except (Reset, ConnectionError, BrokenMessage):
            connection.reset()
        except asyncio.CancelledError:
            # Only `stop` cancels us, and it waits: there is nobody to tell.
            connection.reset()
        finally:
            self._connections.discard(connection)
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, connection: Connection, request: Request) -> None:
        name = next(iter(request.body))
        call = Call(name, request.body, self, connection)
        if NAMES.get(name, name) == "hello":
            await self.role.awaited(request.body)
        answer = await self._answered(call)
        await self._thawed.wait()
        if not request.unanswered:
            connection.writer.write(encode_answer(request, answer, next(self._numbers)))
            await connection.writer.drain()

    async def _answered(self, call: Call) -> Document:
        """Through the hooks, the first one registered outermost, to the command itself."""
        name = NAMES.get(call.name, call.name)
        hooks = [*self.hooks.get(name, []), *([] if name in PREAMBLE else self.hooks.get("*", []))]
        if name not in PREAMBLE:
            self.commands.append(call.command)
        return self._amended(call, await self._through(hooks, call))

    async def _through(self, hooks: list[Hooked], call: Call) -> Document:
        if not hooks:
            return self._executed(call)
        first, *others = hooks

        async def proceed(command: Document) -> Document:
            return await self._through(others, replace(call, command=command))

        first.take()
        try:
            return await first.hook(replace(call, _proceed=proceed))
        except Reset:
            raise
        except Exception as failure:
            return self._failed(failure)

    def _executed(self, call: Call) -> Document:
        try:
            self._check(call)
            return COMMANDS[NAMES.get(call.name, call.name)](call)
        except Exception as failure:
            return self._failed(failure)

    def _failed(self, failure: Exception) -> Document:
        if isinstance(failure, CommandError):
            return failure.answer()
        # A mistake of ours, or of a hook, must fail the test, whatever the client makes of the answer.
        self.mistakes.append(failure)
        return CommandError(ErrorCode.INTERNAL_ERROR, repr(failure)).answer()

    def _check(self, call: Call) -> None:
        name = NAMES.get(call.name, call.name)
        if name not in COMMANDS:
            raise CommandError(ErrorCode.COMMAND_NOT_FOUND, f"no such command: '{call.name}'")
        if self.users.needed and call.connection.login.user is None and name not in OPEN_TO_ALL:
            raise CommandError(ErrorCode.UNAUTHORIZED, f"Command {call.name} requires authentication")
        if call.command.get("startTransaction"):
            raise CommandError(ErrorCode.ILLEGAL_OPERATION, "the scripted server knows no transactions")
        self.role.check(call)

    def _amended(self, call: Call, answer: Document) -> Document:
        """What a server adds to errors: whether a write may be sent again, and what changed in the set."""
        self.role.amend(answer)
        codes = {answer.get("code"), answer.get("writeConcernError", {}).get("code")}
        if "txnNumber" in call.command and codes & RETRYABLE_WRITE:
            labels = answer.setdefault("errorLabels", [])
            if "RetryableWriteError" not in labels:
                labels.append("RetryableWriteError")
        return answer


@asynccontextmanager
async def scripted_server(
    *,
    role: Role | None = None,
    store: Store | None = None,
    users: Users | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ScriptedServer]:
    """One server alone, in the test's own loop."""
    server = ScriptedServer(role=role, store=store, users=users, tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
    server.check()
