"""Runs one worker: `python -m worker.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

import asyncio
import logging

import uvicorn

from chatkernel.lifeline import watch_parent
from chatkernel.listening import listen
from chatkernel.process import run_service
from chatkernel.settings import ServiceSettings
from worker.app import make_app
from worker.work import Work, working


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM, SIGINT or the end of the supervisor. Raises ChatError when the store cannot be used."""
    async with working(settings) as work:
        await _serve(settings, work)


async def _serve(settings: ServiceSettings, work: Work) -> None:
    config = uvicorn.Config(
        make_app(work),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn").setLevel("WARNING")
    server = uvicorn.Server(config)
    parent_gone = asyncio.Event()

    async def stop_when_alone() -> None:
        await parent_gone.wait()
        server.should_exit = True

    watching = [asyncio.create_task(watch_parent(parent_gone)), asyncio.create_task(stop_when_alone())]
    try:
        await server.serve(sockets=[listen(settings.host, settings.port)])
    finally:
        for task in watching:
            task.cancel()
    if not server.started:
        raise SystemExit(1)


def main() -> None:
    run_service("worker", serve)


if __name__ == "__main__":
    main()
