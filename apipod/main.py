"""Runs one API pod: `python -m apipod.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

import uvicorn

from apipod.app import build_app
from apipod.services import Services
from chatkernel.httpprotocol import http_protocol
from chatkernel.lifeline import ends_with_parent, inherited_listeners
from chatkernel.listening import believes_proxies, listen
from chatkernel.process import run_service
from chatkernel.settings import ServiceSettings, load_secrets
from chatkernel.wiring import Kernel

BACKLOG = 2048
STOP_AFTER_S = 5
"""Requests that run at SIGTERM are given this long."""


def server_of(services: Services) -> uvicorn.Server:
    config = uvicorn.Config(
        build_app(services),
        loop="none",
        http=http_protocol(services.live),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=believes_proxies(),
        timeout_graceful_shutdown=STOP_AFTER_S,
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM or SIGINT. Raises SettingsError, ChatError or OSError when it cannot start."""
    kernel = await Kernel.build(settings, load_secrets(settings))
    server = server_of(Services(kernel))
    async with ends_with_parent(server):
        await server.serve(
            sockets=[listen(settings.host, settings.port, shared=True), *inherited_listeners()]
        )


def main() -> None:
    run_service("apipod", serve)


if __name__ == "__main__":
    main()
