"""Bringing a laptop cluster up: its directory, its address, its first process, and then the cluster itself."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from chatkernel.redis_url import RedisUrlError
from chatoperator.datadir import MARKER_ENV, DataDir, UpError, starting
from chatoperator.laptopterminal import Terminal
from chatoperator.launcher import Launcher
from chatoperator.model import PodKind
from chatoperator.specfile import SpecError
from chatoperator.specsource import SpecSource
from chatoperator.storesource import UrlFromError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LISTEN_BACKLOG = 1024


class Options(Struct, frozen=True):
    """`file` is None for the defaults. `program` is how a person calls `chatctl` and `data_option` what they have
    to add to name this cluster, both for what is printed."""

    data: Path
    file: Path | None = None
    port: int | None = None
    redis_url: str | None = None
    store_url: str | None = None
    as_json: bool = False
    program: str = "chatctl"
    data_option: str = ""
    commands: Mapping[PodKind, Sequence[str]] | None = None
    """What is run for each kind of pod instead of our services: tests put builds of their own in."""


class Ground(Struct, frozen=True):
    """What a laptop cluster stands on. `started` is the monotonic second at which it was asked for."""

    options: Options
    data: DataDir
    source: SpecSource
    launcher: Launcher
    terminal: Terminal
    url: str
    started: float
    leftovers: int


async def up(options: Options) -> None:
    """Runs the cluster until SIGINT, SIGTERM, SIGHUP, a stop order or the end of its terminal; under `nohup`, SIGHUP
    and the terminal are of no matter. Raises UpError."""
    started = time.monotonic()
    terminal = Terminal()
    data = DataDir(options.data)
    try:
        source = SpecSource(
            options.file, port=options.port, redis_url=options.redis_url, store_url=options.store_url
        )
    except (SpecError, UrlFromError) as error:
        raise UpError(str(error)) from error
    except RedisUrlError as error:
        raise UpError(f"the URL of --redis {error}") from error
    data.create()
    data.lock()
    try:
        with starting(data.root):
            leftovers = data.clean()
        with listening(source.fixed.port) as shared:
            launcher = Launcher(
                data.logs,
                shared_socket=shared,
                marker=(MARKER_ENV, str(data.root)),
                on_pid=data.note_pid,
                commands=options.commands,
            )
            try:
                url = f"http://{HOST}:{shared.getsockname()[1]}"
                with starting(data.root):
                    await launcher.warm_up()
                    data.note_running(url)
                # Late: while the forker imports the services on one core, this imports on another.
                from chatoperator.laptopcluster import LaptopCluster

                ground = Ground(options, data, source, launcher, terminal, url, started, leftovers)
                await LaptopCluster(ground).run()
            finally:
                await launcher.aclose()
    finally:
        data.unlock()


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """The socket that all API pods share, so that the address answers while they come and go."""
    shared = socket.socket()
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            shared.bind((HOST, port))
            shared.listen(LISTEN_BACKLOG)
        except OSError as error:
            raise UpError(
                f"port {port} of {HOST} cannot be used ({error.strerror}): choose another with --port N"
            ) from error
        yield shared
    finally:
        shared.close()
