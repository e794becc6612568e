"""The control socket of a laptop cluster, as seen by people's commands and the drill."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from chatclient.errors import Unreachable

ANSWER_MAX_BYTES = 8 * 1024 * 1024

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - read, not bound
_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """The cluster will not or cannot do it; the message is for whoever asked."""


class PodStatus(Struct, frozen=True):
    """A row of the cluster's status; what it does not say is at its default."""

    name: str
    kind: str = ""
    phase: str = ""
    connections: int | None = None

    @property
    def ready(self) -> bool:
        return self.phase.lower() in ("ready", "running", "serving")


class RedisStatus(Struct, frozen=True):
    state: str = ""
    embedded: bool = True
    restarts: int = 0


class ClusterStatus(Struct, frozen=True):
    url: str = ""
    phase: str = ""
    pods: list[PodStatus] = []
    redis: RedisStatus = RedisStatus()
    spec: dict[str, Any] = {}

    @property
    def chat_replicas(self) -> int:
        """How many chat pods there are to be; some may be starting or leaving."""
        return int(self.spec["chatPods"]["replicas"])

    def ready(self, kind: str) -> list[str]:
        """Names of the pods of that kind that serve."""
        return [pod.name for pod in self.pods if pod.kind == kind and pod.ready]


class Control:
    """Asks the operator of the cluster whose data directory this is. Each call is a connection of its own."""

    def __init__(self, data: Path) -> None:
        self._data = data

    @property
    def data(self) -> Path:
        """The data directory, absolute."""
        return self._data.absolute()

    def _path(self) -> Path:
        path = self._data / "control.sock"
        note = self._data / "control.path"  # written when the directory's own path is too long for a socket
        if not path.exists() and note.exists():
            return Path(note.read_text())
        return path

    @property
    def exists(self) -> bool:
        return self._path().exists()

    async def ask(self, do: str, timeout_s: float = 15.0, **fields: str | int) -> bytes:
        """The raw answer. Raises Refused, or Unreachable when no cluster runs there."""
        path = self._path()
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(str(path), limit=ANSWER_MAX_BYTES)
                try:
                    writer.write(msgspec.json.encode({"do": do, **fields}) + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, ValueError) as error:
            raise Unreachable(f"no cluster answers on {self._data}") from error
        answer = msgspec.json.decode(line) if line else {"error": "the cluster has ended"}
        if not answer.get("ok"):
            raise Refused(str(answer.get("error", "refused")))
        return line

    async def status(self) -> ClusterStatus:
        """Raises Refused or Unreachable."""
        return msgspec.json.decode(await self.ask("status"), type=ClusterStatus)


def same_place(url: str, other: str) -> bool:
    """Whether two URLs name the same host and port, `localhost` being 127.0.0.1."""
    return _place(url) == _place(other)


def _place(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url, None
    return "127.0.0.1" if host in _LOOPBACK else host, port or _PORTS.get(parts.scheme)
