"""A real small cluster for the documents' examples: `chatctl up` in a process of its own, on its own data."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from chatoperator.control import Request, ask
from chatoperator.datadir import DataDir

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
EXAMPLE = Path(__file__).parents[2] / "examples" / "laptop.yaml"


class Cluster:
    """`control` speaks to the supervisor as `chatctl drain` and others do."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self._socket = data

    async def control(self, **fields: Any) -> dict[str, Any]:
        return await ask(DataDir(self._socket).control_socket(), Request(**fields))


@asynccontextmanager
async def cluster(data: Path) -> AsyncIterator[Cluster]:
    """Ready when given. Raises TimeoutError, with the supervisor's last lines, when it does not become so."""
    port = _free_port()
    log = data / "up.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "chatclient.cli.main", "up", str(EXAMPLE)),
            *("--data", str(data / "c"), "--port", str(port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        running = Cluster(f"http://127.0.0.1:{port}", data / "c")
        await _ready(running, process, log)
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()  # its pods end with it: they hold a lifeline
                await process.wait()


async def _ready(running: Cluster, process: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as http:
            while not await _chat_pods_ready(running, http):
                if process.returncode is not None:
                    raise TimeoutError
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        last = log.read_text()[-2000:]  # noqa: ASYNC240 - nothing else runs here any more
        raise TimeoutError(f"the cluster did not start:\n{last}") from error


async def _chat_pods_ready(running: Cluster, http: httpx.AsyncClient) -> bool:
    try:
        status = await running.control(do="status")
        ready = sum(pod["kind"] == "chat" and pod["phase"] == "ready" for pod in status["pods"])
        return ready >= 2 and (await http.get(running.url + "/readyz")).status_code == 200
    except Exception:  # noqa: BLE001 - whatever is not there yet
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
