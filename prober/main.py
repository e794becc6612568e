"""Runs the prober: `python -m prober.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

import asyncio
import logging

import uvicorn

from chatkernel.lifeline import watch_parent
from chatkernel.listening import listen
from chatkernel.process import run_service
from chatkernel.settings import ServiceSettings, load_secrets
from prober.app import make_app
from prober.probe import Probe


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ChatError when the store cannot be used, OSError when there is no port."""
    probe = Probe(settings, load_secrets(settings))
    config = uvicorn.Config(
        make_app(probe),
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
    probing = asyncio.create_task(probe.run(), name="probe")
    # Whatever ends it ends the process: a prober that only answers would tell what was true once.
    probing.add_done_callback(lambda _: setattr(server, "should_exit", True))
    parent_gone = asyncio.Event()

    async def stop_when_alone() -> None:
        await parent_gone.wait()
        server.should_exit = True

    watching = [asyncio.create_task(watch_parent(parent_gone)), asyncio.create_task(stop_when_alone())]
    try:
        await server.serve(sockets=[listen(settings.host, settings.port)])
    finally:
        for task in (*watching, probing):
            task.cancel()
        await asyncio.wait((*watching, probing))
    if not probing.cancelled():
        probing.result()


def main() -> None:
    run_service("prober", serve)


if __name__ == "__main__":
    main()
