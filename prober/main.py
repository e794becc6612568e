"""Runs the prober: `python -m prober.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

import asyncio

from chatkernel.lifeline import ends_with_parent
from chatkernel.listening import listen
from chatkernel.operations import operations_server
from chatkernel.process import run_service
from chatkernel.settings import ServiceSettings, load_secrets
from prober.app import make_app
from prober.probe import Probe


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ChatError when the store cannot be used, OSError when there is no port."""
    probe = Probe(settings, load_secrets(settings))
    server = operations_server(make_app(probe))
    probing = asyncio.create_task(probe.run(), name="probe")
    # Whatever ends it ends the process: a prober that only answers would tell what was true once.
    probing.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        async with ends_with_parent(server):
            await server.serve(sockets=[listen(settings.host, settings.port)])
    finally:
        probing.cancel()
        await asyncio.wait((probing,))
    if not probing.cancelled():
        probing.result()


def main() -> None:
    run_service("prober", serve)


if __name__ == "__main__":
    main()
