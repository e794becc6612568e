"""Between a rig and the drill that it runs: the drill is a process as people run it, and its fault is the program
`call`, which asks the rig to `strike` and to `heal`, for the rig has the servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

CALL = Path(__file__).with_name("call")
DRILL_WITHIN_S = 1_800


@asynccontextmanager
async def answering(path: Path, do: Callable[[str, str], Awaitable[None]]) -> AsyncIterator[None]:
    """On the socket at `path`. `do` gets a fault's name, and `strike` or `heal`; what it raises fails the fault."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, what = (await reader.readline()).decode().split()
        said: dict[str, object] = {"ok": True, "note": ""}
        try:
            await do(name, what)
        except Exception as error:
            said = {"ok": False, "note": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    try:
        yield
    finally:
        server.close()


async def drilled(
    command: Sequence[str], environ: Mapping[str, str], socket: Path
) -> tuple[dict[str, Any], str]:
    """The report, {} when there is none, and what was said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**environ, "DRILL_RIG": str(socket), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("DRILL_TALKS") else subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DRILL_WITHIN_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return (json.loads(out) if out else {}), (err or b"").decode()[-2_000:]


def told(record: Mapping[str, Any]) -> str:
    """What the drill says of one fault, for a person."""
    return (
        f"{record['name'].removeprefix('exec:')}: {record['lost_connections']} connections lost, "
        f"slowest ack {record['slowest_ack_s']} s, all level {record['level_after_s']} s after it"
    )
