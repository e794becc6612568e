"""The control socket of a laptop cluster: one JSON object a line, one answer a line. For its owner alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from chatoperator.datadir import UpError
from chatoperator.place import PlaceError

log = logging.getLogger(__name__)

LINE_MAX_BYTES = 64 * 1024


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked for. `replicas` is for scale, `pod` for the orders to one pod, `action` for redis."""

    do: Literal["status", "scale", "drain", "undrain", "kill", "freeze", "thaw", "redis", "stop"]
    replicas: int | None = None
    pod: str | None = None
    action: Literal["kill", "flush", "stop", "cont"] | None = None


class ControlError(Exception):
    """Asked for something that cannot be done; the message is for whoever asked."""


Handler = Callable[[Request], Awaitable[dict[str, Any]]]


class ControlServer:
    def __init__(self, path: Path, handle: Handler) -> None:
        self._path, self._handle = path, handle
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_MAX_BYTES)
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._clients):
                writer.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # gone, or a line without an end: closing is the answer
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **await self._handle(msgspec.json.decode(line, type=Request))}
        except (msgspec.DecodeError, ControlError, PlaceError) as error:
            return {"ok": False, "error": str(error)}
        except Exception:
            log.exception("control request failed")
            return {"ok": False, "error": "internal error: see the operator's log"}


async def ask(path: Path, request: Request, timeout_s: float = 10.0) -> dict[str, Any]:
    """The answer of a running cluster. Raises UpError when there is none, ControlError when it refuses."""
    nobody = UpError(
        f"no cluster is running on {path.parent}: start one with `chatctl up` (or `make run`), "
        "or name its directory with --data DIR"
    )
    if not path.exists():  # noqa: ASYNC240 - one look. Its path may even be too long for a socket.
        raise nobody
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=8 * 1024 * 1024)
            try:
                writer.write(msgspec.json.encode(request) + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise nobody from error
    except OSError as error:
        raise UpError(f"the cluster on {path.parent} does not answer: {error}") from error
    answer: dict[str, Any] = msgspec.json.decode(line) if line else {"ok": False, "error": "it has ended"}
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error", "refused")))
    return answer
