"""The operator on Kubernetes: `chatoperator`, or `python -m chatoperator.kube.main`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import uvloop
from msgspec import Struct

from chatkernel.logs import configure_logs
from chatkernel.process import settle_in
from chatkernel.settings import ANY_ADDRESS
from chatoperator.kube.client import connect
from chatoperator.kube.errors import KubeError
from chatoperator.kube.leader import Leader, LeaseLost
from chatoperator.kube.operator import Operator
from chatoperator.manifests.inputs import DevelopmentImages
from chatoperator.manifests.names import FIELD_MANAGER, PORT

log = logging.getLogger(__name__)


class Settings(Struct, frozen=True):
    """Of the operator, from its environment. `namespaces` empty: all. `lease`: its name, in `namespace`."""

    image: str
    namespaces: tuple[str, ...]
    namespace: str
    lease: str
    identity: str
    development: DevelopmentImages
    host: str
    port: int
    log_level: str


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """CHAT_IMAGE, CHAT_NAMESPACES (with commas), CHAT_LEASE, POD_NAME, POD_NAMESPACE, CHAT_DEV_REDIS_IMAGE,
    CHAT_DEV_POSTGRESQL_IMAGE, CHAT_DEV_MONGODB_IMAGE, CHAT_OPERATOR_HOST, CHAT_OPERATOR_PORT,
    CHAT_LOG_LEVEL."""
    listed = environ.get("CHAT_NAMESPACES", "").split(",")
    name = environ.get("POD_NAME") or socket.gethostname()
    return Settings(
        image=environ.get("CHAT_IMAGE", ""),
        namespaces=tuple(sorted({namespace.strip() for namespace in listed} - {""})),
        namespace=environ.get("POD_NAMESPACE") or "default",
        lease=environ.get("CHAT_LEASE") or FIELD_MANAGER,
        # A container that was started again has the pod's name, and is another process all the same.
        identity=f"{name}-{secrets.token_hex(4)}",
        development=DevelopmentImages(
            redis=environ.get("CHAT_DEV_REDIS_IMAGE", ""),
            postgresql=environ.get("CHAT_DEV_POSTGRESQL_IMAGE", ""),
            mongodb=environ.get("CHAT_DEV_MONGODB_IMAGE", ""),
        ),
        host=environ.get("CHAT_OPERATOR_HOST") or ANY_ADDRESS,
        port=int(environ.get("CHAT_OPERATOR_PORT") or PORT),
        log_level=environ.get("CHAT_LOG_LEVEL") or "INFO",
    )


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises KubeError when there is no way to an API server; ends the process when the
    Lease is lost."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        # Connections of its own: nothing that the rest waits for may delay the Lease.
        lease_client, client = await connect(), await connect()
        stack.push_async_callback(lease_client.aclose)
        stack.push_async_callback(client.aclose)
        lease_client.requests = client.requests  # one account of both, for the metrics
        leader = Leader(lease_client, settings.namespace, settings.lease, settings.identity)
        client.guard = leader.check
        trust = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-trust-")))
        operator = Operator(
            client,
            leader,
            image=settings.image,
            namespaces=settings.namespaces,
            operator_namespace=settings.namespace,
            development=settings.development,
            trust=trust,
        )
        working = asyncio.create_task(_work(settings, operator, leader), name="operator")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        done, _ = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
        if working in done:
            working.result()
        await leader.release()


async def _work(settings: Settings, operator: Operator, leader: Leader) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(operator.serve_http(settings.host, settings.port), name="http")
        await leader.acquire()
        group.create_task(_hold(leader), name="lease")
        group.create_task(operator.run(), name="clusters")


async def _hold(leader: Leader) -> None:
    """Whoever has lost the Lease ends at once, without a word to anybody: another may be at work already."""
    try:
        await leader.hold()
    except LeaseLost as error:
        log.error("ends", extra={"error": str(error)})  # noqa: TRY400 - where it was noticed is of no interest
        os._exit(1)


def main() -> None:
    settings = read_settings()
    configure_logs("operator", settings.identity, settings.log_level)
    settle_in()
    try:
        uvloop.run(serve(settings))
    except (KubeError, OSError) as error:
        sys.stderr.write(f"operator: {error}\n")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
