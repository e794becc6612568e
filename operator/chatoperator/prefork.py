"""The supervisor's side of `forker.py`: children with what asyncio's subprocesses have, forked instead of started."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from chatoperator.forker import Birth, Notice

log = logging.getLogger(__name__)

BIRTH_TIMEOUT_S = 15.0
"""The forker imports for a second or two before it hears the first request."""

GONE = -int(signal.SIGKILL)


class Child(Protocol):
    """A process: `asyncio.subprocess.Process` is one."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int) -> None: ...


async def execute(
    command: Sequence[str], env: Mapping[str, str], log_file: Path, fds: Sequence[int]
) -> asyncio.subprocess.Process:
    """Starts a program whose output goes to the end of a file. Raises OSError."""
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            pass_fds=tuple(fds),
            # Its own session: Ctrl-C reaches the supervisor alone, which then ends its children.
            start_new_session=True,
        )
    finally:
        os.close(output)


class ForkedChild:
    """Implements Child."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = asyncio.Event()
        self._code = GONE

    @property
    def pid(self) -> int:
        return self._pid

    async def wait(self) -> int:
        await self._ended.wait()
        return self._code

    def send_signal(self, signal: int) -> None:
        """The forker reaps and tells: until it has told, the number is this process's."""
        if not self._ended.is_set():
            os.kill(self._pid, signal)

    def ended(self, code: int) -> None:
        self._code = code
        self._ended.set()


class Prefork:
    """Starts the forker when it is first needed, and again when it has died."""

    def __init__(
        self, modules: Sequence[str], env: Mapping[str, str], fds: Sequence[int], log_file: Path
    ) -> None:
        self._modules, self._env, self._fds, self._log_file = modules, env, fds, log_file
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._births: dict[int, asyncio.Future[ForkedChild]] = {}
        self._children: dict[int, ForkedChild] = {}
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Raises OSError."""
        async with self._lock:
            if self._reading is None or self._reading.done():
                await self._start()

    async def spawn(self, module: str, env: Mapping[str, str], log_file: Path) -> ForkedChild:
        """Raises OSError."""
        await self.start()
        writer, number = self._writer, next(self._ids)
        if writer is None:
            raise ConnectionError("the forker is gone")
        future: asyncio.Future[ForkedChild] = asyncio.get_running_loop().create_future()
        self._births[number] = future
        try:
            writer.write(msgspec.json.encode(Birth(number, module, dict(env), str(log_file))) + b"\n")
            async with asyncio.timeout(BIRTH_TIMEOUT_S):
                return await future
        finally:
            self._births.pop(number, None)

    async def aclose(self) -> None:
        """After the children have ended."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        command = (sys.executable, "-m", "chatoperator.forker", str(theirs.fileno()), *self._modules)
        try:
            self._process = await execute(command, self._env, self._log_file, (theirs.fileno(), *self._fds))
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader, self._writer), name="forker")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._note(msgspec.json.decode(line, type=Notice))
        except (OSError, msgspec.DecodeError) as error:
            log.warning("forker not understood", extra={"error": str(error)})
        finally:
            writer.close()
            self._writer = None
            self._lose_all()

    def _note(self, notice: Notice) -> None:
        if notice.born is not None:
            number, pid = notice.born
            child = self._children[pid] = ForkedChild(pid)
            future = self._births.get(number)
            if future is not None and not future.done():
                future.set_result(child)
            else:
                child.send_signal(signal.SIGKILL)  # who asked has given up
        if notice.ended is not None:
            pid, code = notice.ended
            ended = self._children.pop(pid, None)
            if ended is not None:
                ended.ended(code)

    def _lose_all(self) -> None:
        """The forker is dead: its children end with it, and nobody can tell when."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            child.ended(GONE)
        self._children.clear()
        for future in self._births.values():
            if not future.done():
                future.set_exception(ConnectionError("the forker is gone"))
