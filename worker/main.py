"""Runs one worker: `python -m worker.main`, with CHAT_CONFIG naming its settings."""

from __future__ import annotations

from chatkernel.lifeline import ends_with_parent
from chatkernel.listening import listen
from chatkernel.operations import operations_server
from chatkernel.process import run_service
from chatkernel.settings import ServiceSettings
from worker.app import make_app
from worker.work import Work, working


async def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM, SIGINT or the end of the supervisor. Raises ChatError when the store cannot be used."""
    async with working(settings) as work:
        await _serve(settings, work)


async def _serve(settings: ServiceSettings, work: Work) -> None:
    server = operations_server(make_app(work))
    async with ends_with_parent(server):
        await server.serve(sockets=[listen(settings.host, settings.port)])
    if not server.started:
        raise SystemExit(1)


def main() -> None:
    run_service("worker", serve)


if __name__ == "__main__":
    main()
