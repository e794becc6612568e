"""A process as a pod: what it says of itself, and what it was told meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from aiohttp import web
from support.kube_api import eventually

from chatoperator.localpod import LocalPod
from chatoperator.model import PodKind


class Process:
    """Answers to a question with what was so before it was told to stay."""

    def __init__(self) -> None:
        self.state = "draining"
        self.asked, self.stays = asyncio.Event(), asyncio.Event()

    async def statz(self, _: web.Request) -> web.Response:
        said = {"state": self.state, "connections": 0}
        if self.state == "draining":
            self.asked.set()
            await self.stays.wait()
        return web.json_response(said)

    async def readyz(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def undrain(self, _: web.Request) -> web.Response:
        self.state = "ready"
        return web.json_response({})


async def test_an_answer_from_before_it_was_told_to_stay_is_no_drain() -> None:
    told, app = Process(), web.Application()
    app.router.add_get("/statz", told.statz)
    app.router.add_get("/readyz", told.readyz)
    app.router.add_post("/{order:undrain}", told.undrain)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    seen = []
    pod = LocalPod(
        "chat-1",
        PodKind.CHAT,
        "r",
        runner.addresses[0][1],
        now=time.monotonic,
        changed=lambda: seen.append(pod.view()),
        token="t",
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    pod.adopt(child, Path("unused"))
    try:
        await told.asked.wait()
        pod.undrain()
        await eventually(lambda: bool(seen))
        told.stays.set()
        await eventually(lambda: pod.stats.get("state") == "ready")
        assert not any(view.draining for view in seen)
    finally:
        pod.stop(0)
        await pod.ended.wait()
        await pod.close()
        await runner.cleanup()
