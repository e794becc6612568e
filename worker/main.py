"""Runs one worker: `python -m worker.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from types import FrameType

import uvicorn
import uvloop

from chatkernel.errors import ChatError
from chatkernel.lifeline import watch_parent
from chatkernel.logs import configure_logs
from chatkernel.process import settle_in
from chatkernel.settings import ServiceSettings, SettingsError, load_settings
from worker.app import make_app


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM, SIGINT or the end of the supervisor."""
    config = uvicorn.Config(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    parent_gone = asyncio.Event()

    async def stop_when_alone() -> None:
        await parent_gone.wait()
        server.should_exit = True

    watching = [asyncio.create_task(watch_parent(parent_gone)), asyncio.create_task(stop_when_alone())]
    try:
        await server.serve()
    finally:
        for task in watching:
            task.cancel()
    if not server.started:
        raise SystemExit(1)


def _exit_cleanly(signum: int, frame: FrameType | None) -> None:
    """Before and after uvicorn has the signals (it raises them again when it has stopped) they end the
    process."""
    raise SystemExit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    try:
        settings = load_settings()
        configure_logs("worker", settings.pod, settings.log_level)
        logging.getLogger("uvicorn").setLevel("WARNING")
        settle_in()
        uvloop.run(serve(settings))
    except (SettingsError, ChatError, OSError) as error:
        sys.stderr.write(f"worker: {error}\n")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
