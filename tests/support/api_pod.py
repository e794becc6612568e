"""A real API pod in this process: real Valkey, real SQLite, real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvloop
from support.valkey import free_port

from apipod.main import server_of
from apipod.services import Services
from chatkernel.listening import listen
from chatkernel.protocol import Limits
from chatkernel.settings import LiveSettings, RateSettings, SecretFile, ServiceSettings, SigningKey
from chatkernel.wiring import Kernel

SECRETS = SecretFile([SigningKey("k1", "x" * 40), SigningKey("k0", "y" * 40)])


class Pod:
    """An API pod in this process, reached only through its port."""

    def __init__(self, settings: ServiceSettings, secrets: SecretFile = SECRETS) -> None:
        self.settings, self.secrets = settings, secrets
        self.url = f"http://127.0.0.1:{settings.port}"
        self.services: Services | None = None
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Pod:
        self._thread.start()
        assert self._ready.wait(15)
        if self._failed is not None:
            raise self._failed
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()
            raise

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        kernel = await Kernel.build(self.settings, self.secrets)
        await kernel.store.ensure_schema()
        self.services = Services(kernel)
        self._server = server_of(self.services)
        self._server.capture_signals = _no_signals  # type: ignore[method-assign] # not the main thread

        async def watch() -> None:
            while not self._server.started:
                await asyncio.sleep(0.005)
            self._ready.set()

        watcher = asyncio.create_task(watch())
        await self._server.serve(sockets=[listen(self.settings.host, self.settings.port, shared=True)])
        await watcher


@asynccontextmanager
async def serving(
    settings: ServiceSettings, secrets: SecretFile = SECRETS
) -> AsyncIterator[tuple[Pod, httpx.AsyncClient]]:
    """A pod of a test's own, and a client of it."""
    pod = await asyncio.to_thread(Pod(settings, secrets).start)
    try:
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False, timeout=30) as client:
            yield pod, client
    finally:
        await asyncio.to_thread(pod.stop)


class _no_signals:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def settings_of(tmp: Path, redis_url: str, **changes: Any) -> ServiceSettings:
    """`limits` and `rates` are those of `live`."""
    # Generous, because all tests come from one address; what the limits do is tested on pods of their own.
    rates = changes.pop("rates", RateSettings(login_attempts=1000))
    changes.setdefault("live", LiveSettings(limits=changes.pop("limits", Limits()), rates=rates))
    base = ServiceSettings(
        cluster=f"c{free_port()}",
        pod="api-0",
        revision="r1",
        redis_url=redis_url,
        store_url=f"sqlite:///{tmp / 'chat.db'}",
        secret_file="",
        port=free_port(),
    )
    return msgspec.structs.replace(base, **changes)
