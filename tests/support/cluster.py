"""A real laptop cluster for tests: the operator's own loop, processes, sockets, Valkey and SQLite."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import yaml

from chatclient.control import Control
from chatclient.errors import Unreachable
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, connect
from chatkernel.storage.open import Store, open_store

RUNNER = Path(__file__).with_name("run_cluster.py")
START_S = 60.0
STOP_S = 20.0

HEARTBEAT_S = 1.0
"""Of test clusters: whatever the bus lost is healed within it."""
OFFLINE_S = 2.0

T = TypeVar("T")


class Cluster:
    """One running cluster. `spec` may be changed and written with `apply`, as a person edits the file."""

    def __init__(self, data: Path, spec: Mapping[str, Any], builds: Mapping[str, Path]) -> None:
        self.data, self.spec = data, copy.deepcopy(dict(spec))
        self.control = Control(data)
        self.url = ""
        self.port = 0
        """Of its URL; 0: any free one. Clients that are to find it again need the same."""
        self.store_url = ""
        """Over what `spec` says, if there is one."""
        self._builds = {kind: str(path) for kind, path in builds.items()}
        self._file = data.with_suffix(".yaml")
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    # --- life ---

    def start(self, environ: Mapping[str, str] | None = None) -> Cluster:
        self.apply()
        asked = {"data": str(self.data), "file": str(self._file), "port": self.port, "builds": self._builds}
        asked["store"] = self.store_url
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(RUNNER), json.dumps(asked)],  # -P: its neighbours are no packages
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )
        try:
            asyncio.run(self._until_up())
        except BaseException:
            self.stop()
            raise
        return self

    async def _until_up(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no cluster came up:\n{self._log.read_text()[-4000:]}")
            with suppress(Unreachable):
                status = await self.control.status()
                wanted = self.spec.get("chatPods", {}).get("replicas", 2)
                if len(status.ready("chat")) >= wanted and status.ready("api"):
                    self.url = status.url
                    return
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its pods see the end of their lifeline
            self._process.wait(STOP_S)

    # --- what a person can do to it ---

    def apply(self) -> None:
        """Write the file that the running operator watches."""
        resource = {
            "apiVersion": "chatcluster.dev/v1alpha1",
            "kind": "ChatCluster",
            "metadata": {"name": "laptop"},
            "spec": self.spec,
        }
        temporary = self._file.with_suffix(".new")
        temporary.write_text(yaml.safe_dump(resource))
        temporary.replace(self._file)

    async def order(self, do: str, **fields: str | int) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.control.ask(do, **fields))
        return answer

    async def pods(self, kind: str = "chat") -> dict[str, dict[str, Any]]:
        """Rows of the status by name, of one kind."""
        return {pod["name"]: pod for pod in (await self.order("status"))["pods"] if pod["kind"] == kind}

    async def ready(self, kind: str = "chat") -> list[str]:
        """The pods of one kind that serve, by name."""
        return sorted(name for name, pod in (await self.pods(kind)).items() if pod["phase"] == "ready")

    async def whole(self, replicas: int, within_s: float = 30.0) -> list[str]:
        """Wait until exactly that many chat pods are there and serve; their names."""

        async def look() -> list[str]:
            pods = await self.pods()
            phases = {pod["phase"] for pod in pods.values()}
            return sorted(pods) if len(pods) == replicas and phases == {"ready"} else []

        return await eventually(look, within_s)

    async def statz(self, pod: str) -> dict[str, Any]:
        port = (await self.pods())[pod]["port"]
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            answer: dict[str, Any] = (await http.get(f"http://127.0.0.1:{port}/statz")).json()
            return answer

    async def signal(self, pod: str, number: signal.Signals) -> None:
        """Straight to the process, past the operator."""
        for kind in ("chat", "api", "worker"):
            found = (await self.pods(kind)).get(pod)
            if found is not None:
                os.kill(found["pid"], number)
                return
        raise AssertionError(f"no pod {pod}")

    # --- what is beneath it ---

    def settings_of_any_pod(self) -> dict[str, Any]:
        file = next((self.data / "run").glob("*-*.json"))
        settings: dict[str, Any] = msgspec.json.decode(file.read_bytes())
        return settings

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[tuple[Redis, Keys]]:
        """For faults that only something in Redis can bring about."""
        settings = self.settings_of_any_pod()
        redis = connect(settings["redis_url"])
        try:
            yield redis, Keys(settings["key_prefix"], settings["cluster"])
        finally:
            await redis.aclose()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store itself, for what would take too long by HTTP."""
        store = await open_store(self.settings_of_any_pod()["store_url"])
        try:
            yield store
        finally:
            await store.aclose()


def default_spec(**changes: Any) -> dict[str, Any]:
    """Small times, so that what takes a heartbeat takes a test a second."""
    return {
        "chatPods": {"replicas": 2},
        "presence": {"heartbeatSeconds": HEARTBEAT_S, "offlineSeconds": OFFLINE_S},
        "drain": {"deadlineSeconds": 8, "ratePerSecond": 100},
        "limits": {"sendsPerS": 1000, "sendsBurst": 2000},
        "auth": {"requestsPerS": 10_000, "requestsBurst": 10_000},
        **changes,
    }


@contextmanager
def running_cluster(
    data: Path,
    spec: Mapping[str, Any] | None = None,
    builds: Mapping[str, Path] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """`builds`: kind of pod → the file that is run for it instead of the real service."""
    cluster = Cluster(data, spec or default_spec(), builds or {}).start(environ)
    try:
        yield cluster
    finally:
        cluster.stop()


async def eventually(look: Callable[[], Awaitable[T]], within_s: float = 5.0, step_s: float = 0.03) -> T:
    """The first true answer; fails after `within_s`, telling the last one."""
    deadline = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {found!r}"
        await asyncio.sleep(step_s)
