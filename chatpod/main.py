"""Starts a chat pod: `python -m chatpod.main`, with CHAT_CONFIG naming its settings file."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator

import uvicorn
import uvloop

from chatkernel.errors import ChatError
from chatkernel.httpprotocol import http_protocol
from chatkernel.lifeline import ends_with_parent
from chatkernel.listening import believes_proxies, listen
from chatkernel.logs import configure_logs
from chatkernel.operations import leave_signals
from chatkernel.process import settle_in
from chatkernel.settings import ServiceSettings, SettingsError, load_secrets, load_settings
from chatkernel.wiring import Kernel
from chatpod.app import make_app
from chatpod.handshake import HandshakeProtocol
from chatpod.pod import Pod

log = logging.getLogger(__name__)


class PodServer(uvicorn.Server):
    """uvicorn closes all WebSockets as soon as it is told to stop: so it is told only after the drain."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.pod: Pod | None = None
        self._leaving: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """Drain, then stop; a second call stops at once."""
        if self.pod is None or self._leaving is not None:
            self.should_exit = True
            return
        self._leaving = asyncio.create_task(self._leave(self.pod))

    async def _leave(self, pod: Pod) -> None:
        try:
            await pod.drain_and_leave()
        finally:
            self.should_exit = True


async def serve(settings: ServiceSettings) -> None:
    """Run until a signal or the end of the parent. Raises ChatError, SettingsError."""
    kernel = await Kernel.build(settings, load_secrets(settings))

    async def start_pod() -> AsyncIterator[Pod]:
        pod = Pod(kernel)
        server.pod = pod
        await pod.start()
        yield pod
        await pod.stop()

    config = uvicorn.Config(
        make_app(start_pod),
        ws=HandshakeProtocol,
        http=http_protocol(kernel.live),
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=believes_proxies(),
        backlog=4096,
        timeout_graceful_shutdown=2,
    )

    def limits_changed() -> None:
        config.ws_max_size = kernel.live.limits.frame_max_bytes

    kernel.live.follow(limits_changed)
    server = PodServer(config)
    logging.getLogger("uvicorn").setLevel("WARNING")
    loop = asyncio.get_running_loop()
    # uvicorn's own handlers would close the sockets first.
    leave_signals(server)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, server.leave)
    async with ends_with_parent(server):
        await server.serve(sockets=[listen(settings.host, settings.port)])


def main() -> None:
    try:
        settings = load_settings()
        configure_logs("chatpod", settings.pod, settings.log_level)
        settle_in()
        uvloop.run(serve(settings))
    except (SettingsError, ChatError, OSError) as error:
        print(f"chatpod: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(78)


if __name__ == "__main__":
    main()
