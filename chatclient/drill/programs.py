"""Faults that are programs: `--fault exec:PROGRAM` calls it with `strike`, and later with `heal`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chatclient.drill.arena import Arena, DrillError

PREFIX = "exec:"

STRIKE_WITHIN_S = 120.0
HEAL_WITHIN_S = 120.0
"""A program that takes longer has failed. Enough for a pod of Kubernetes to be evicted and to start again."""

END_WITHIN_S = 5.0
"""Between SIGTERM and SIGKILL for one that took too long or was interrupted."""

TAIL_BYTES = 4096
"""Of what it printed; the last line is shown."""


@dataclass(frozen=True, slots=True)
class Program:
    """One such fault. `path`: an executable that was there a moment ago."""

    name: str
    path: str

    @property
    def label(self) -> str:
        return PREFIX + self.name

    @asynccontextmanager
    async def fault(self, arena: Arena) -> AsyncIterator[None]:
        """Healed whatever happens, also when it could not strike: it may have struck by half. Raises DrillError
        when it cannot do the one or the other."""
        arena.hit.update(arena.devices)  # nobody knows what it does to whom
        environ = {**arena.environ, "CHATCTL_FAULT": self.name, "CHATCTL_HOLD_S": f"{arena.hold_s:g}"}
        failed = ""
        try:
            if note := await self._call("strike", STRIKE_WITHIN_S, environ):
                arena.notes.append(note)
            struck_at = arena.now()
            yield
            await asyncio.sleep(max(0.0, struck_at + arena.hold_s - arena.now()))
        except DrillError as error:
            failed = f"{error}; "
            raise
        finally:
            try:
                await self._call("heal", HEAL_WITHIN_S, environ)
            except DrillError as error:
                raise DrillError(f"{failed}{error}: what it broke may still be broken") from error

    async def _call(self, do: str, within_s: float, environ: Mapping[str, str]) -> str:
        """The last line that it printed. Raises DrillError."""
        with tempfile.TemporaryFile() as output:  # and no pipe: what it leaves running may hold that open
            try:
                process = await asyncio.create_subprocess_exec(
                    self.path,
                    do,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **environ},
                    start_new_session=True,  # Ctrl-C is for the drill, which ends it and heals
                )
            except OSError as error:
                raise DrillError(f"{self.label}: {self.path} cannot be run: {error.strerror}") from error
            try:
                async with asyncio.timeout(within_s):
                    code = await process.wait()
            except TimeoutError:
                raise DrillError(f"{self.label}: `{do}` did not end within {within_s:g} s") from None
            finally:
                if process.returncode is None:
                    await _end(process)
            line = _last_line(output)
        if code:
            said = f": {line}" if line else ""
            raise DrillError(f"{self.label}: `{do}` ended with exit code {code}{said}")
        return line


def program_of(part: str) -> Program | None:
    """What `exec:PROGRAM` or `exec:NAME=PROGRAM` names; None of any other fault. Raises ValueError when there is
    no such executable."""
    if not part.startswith(PREFIX):
        return None
    name, given, path = part.removeprefix(PREFIX).rpartition("=")
    found = shutil.which(path)
    if found is None:
        raise ValueError(f"{part}: {path or 'nothing'} is not an executable file")
    return Program(name if given else Path(path).stem, found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The program and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await process.wait()
                return


def _last_line(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = output.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
