"""Services as processes of their own, started as in a container: with a settings file and an environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from support.valkey import Valkey, eventually, free_port

from chatkernel.keys import Keys
from chatkernel.settings import SOCKET_PATH, SecretFile, ServiceSettings, SigningKey

SECRETS = SecretFile([SigningKey("k1", "x" * 40)])
STARTS_WITHIN_S = 60.0


class Service:
    """One process. `command` other than its module is a build of the test's own."""

    def __init__(
        self,
        module: str,
        settings: ServiceSettings,
        folder: Path,
        *,
        command: list[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.settings, self.name = settings, settings.pod
        self.url = f"http://127.0.0.1:{settings.port}"
        config = folder / f"{settings.pod}.json"
        config.write_bytes(msgspec.json.encode(settings))
        self.log = folder / f"{settings.pod}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command or [sys.executable, "-m", module],
                env={**os.environ, "CHAT_CONFIG": str(config), **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def get(self, path: str) -> httpx.Response:
        """Raises httpx.TransportError."""
        async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
            return await http.get(self.url + path)

    async def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.get("/statz")).json()
        return answer

    async def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return (await self.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def started(self) -> Service:
        await eventually(self.ready, STARTS_WITHIN_S)
        return self

    async def ended(self, within_s: float) -> int:
        """The exit code."""

        async def over() -> bool:
            return self.process.poll() is not None

        await eventually(over, within_s)
        return int(self.process.returncode)

    def events(self) -> list[str]:
        """What it has logged, in short."""
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines() if line[:1] == "{"]


class Shore:
    """What services stand on: one Redis, one database, one set of keys; and the services themselves."""

    def __init__(self, folder: Path, valkey: Valkey) -> None:
        self.folder, self.valkey = folder, valkey
        self.cluster = f"c{os.urandom(4).hex()}"
        self.keys = Keys("chat", self.cluster)
        self.store_url = f"sqlite:///{folder / 'chat.db'}"
        self._secret_file = folder / "keys.json"
        self._secret_file.write_bytes(msgspec.json.encode(SECRETS))
        self._services: list[Service] = []
        subprocess.run(
            [sys.executable, "-m", "chatoperator.schemajob"],
            env={**os.environ, "CHAT_STORE_URL": self.store_url},
            check=True,
        )

    def settings(self, name: str, **changes: Any) -> ServiceSettings:
        port = free_port()
        base = ServiceSettings(
            cluster=self.cluster,
            pod=name,
            revision="r1",
            redis_url=self.valkey.url,
            store_url=self.store_url,
            secret_file=str(self._secret_file),
            port=port,
            public_url=f"ws://127.0.0.1:{port}{SOCKET_PATH}",
        )
        return msgspec.structs.replace(base, **changes)

    def start(
        self,
        module: str,
        name: str,
        *,
        command: list[str] | None = None,
        environ: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Service:
        settings = self.settings(name, **changes)
        service = Service(module, settings, self.folder, command=command, environ=environ)
        self._services.append(service)
        return service

    def chat_pod(self, name: str, **options: Any) -> Service:
        return self.start("chatpod.main", name, **options)

    def api_pod(self, name: str, **options: Any) -> Service:
        return self.start("apipod.main", name, **options)

    def end(self) -> None:
        for service in self._services:
            if service.process.poll() is None:
                service.kill()


@contextmanager
def shore(folder: Path, valkey: Valkey) -> Iterator[Shore]:
    made = Shore(folder, valkey)
    try:
        yield made
    finally:
        made.end()
