"""How the laptop's processes begin: forked from one that is warm where that works, else as new programs.

Imports little, so that the forker can be started before the supervisor has imported the rest of itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chatkernel.lifeline import LIFELINE_ENV, LISTEN_FD_ENV
from chatkernel.settings import POD_ENV, POD_IP_ENV
from chatoperator.model import PodKind
from chatoperator.prefork import Child, Prefork, execute

log = logging.getLogger(__name__)

MODULES: Mapping[PodKind, str] = {
    PodKind.CHAT: "chatpod.main",
    PodKind.API: "apipod.main",
    PodKind.WORKER: "worker.main",
}
COMMANDS: Mapping[PodKind, Sequence[str]] = {
    kind: (sys.executable, "-m", module) for kind, module in MODULES.items()
}
SCHEMA_JOB = "chatoperator.schemajob"
CAN_FORK = sys.platform == "linux"
"""macOS' own libraries do not take a fork without a new program well."""


class Launcher:
    """Owns the lifeline: children hold its read end, and when this process is gone, however it went, they read
    end of file."""

    def __init__(
        self,
        logs: Path,
        *,
        shared_socket: socket.socket | None = None,
        marker: tuple[str, str] = ("", ""),
        on_pid: Callable[[int], None] = lambda _: None,
        commands: Mapping[PodKind, Sequence[str]] | None = None,
    ) -> None:
        """`commands` other than COMMANDS are started as given. `marker` is a variable of every environment;
        `on_pid` is told every child."""
        self._logs, self._shared_socket, self._marker = logs, shared_socket, marker
        self._on_pid, self._commands = on_pid, commands or COMMANDS
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._prefork: Prefork | None = None
        if CAN_FORK and any(self._commands[kind] == COMMANDS[kind] for kind in PodKind):
            # Our own modules come last: what the services import is what takes long.
            modules = [*MODULES.values(), SCHEMA_JOB]
            self._prefork = Prefork(
                modules, self._env(PodKind.API), self._fds(PodKind.API), logs / "forker.log"
            )

    async def warm_up(self) -> None:
        """Begin what the first launch would wait for. Raises OSError."""
        if self._prefork is not None:
            await self._prefork.start()
            if self._prefork.pid is not None:
                self._on_pid(self._prefork.pid)

    async def launch(
        self, kind: PodKind, env: Mapping[str, str], log_file: Path, own_env: Mapping[str, str]
    ) -> Child:
        """`own_env` is a person's: some variables matter only to a program that starts, so with it there is no
        fork. Raises OSError."""
        child = await self._launch(kind, {**self._env(kind), **env}, log_file, own_env)
        try:
            self._on_pid(child.pid)
        except OSError:  # whoever asked will not hear of it, so it must not live
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            raise
        return child

    async def run_schema_job(self, env: Mapping[str, str]) -> int:
        """Its exit code; what it said is in `schema.log`. Raises OSError."""
        log_file, all_env = self._logs / "schema.log", {**self._env(PodKind.WORKER), **env}
        child: Child
        if self._prefork is not None:
            child = await self._prefork.spawn(SCHEMA_JOB, all_env, log_file)
        else:
            child = await execute((sys.executable, "-m", SCHEMA_JOB), all_env, log_file, ())
        return await child.wait()

    async def aclose(self) -> None:
        """After the children have ended."""
        if self._prefork is not None:
            await self._prefork.aclose()
        for fd in (self._lifeline_read, self._lifeline_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    async def _launch(
        self, kind: PodKind, env: dict[str, str], log_file: Path, own_env: Mapping[str, str]
    ) -> Child:
        if self._prefork is not None and not own_env and self._commands[kind] == COMMANDS[kind]:
            try:
                return await self._prefork.spawn(MODULES[kind], env, log_file)
            except OSError as error:
                log.warning("started without the forker", extra={"error": str(error)})
        return await execute(self._commands[kind], {**env, **own_env}, log_file, self._fds(kind))

    def _env(self, kind: PodKind) -> dict[str, str]:
        env = {**_inherited(), LIFELINE_ENV: str(self._lifeline_read)}
        if self._marker[0]:
            env[self._marker[0]] = self._marker[1]
        if kind is PodKind.API and self._shared_socket is not None:
            # Besides its own port, where its health is asked: the laptop's Service.
            env[LISTEN_FD_ENV] = str(self._shared_socket.fileno())
        return env

    def _fds(self, kind: PodKind) -> tuple[int, ...]:
        shared = self._shared_socket if kind is PodKind.API else None
        return (self._lifeline_read,) if shared is None else (self._lifeline_read, shared.fileno())


def _inherited() -> dict[str, str]:
    """Without the name and address of a pod that the whole cluster may run in: they are none of its pods'."""
    return {name: value for name, value in os.environ.items() if name not in (POD_ENV, POD_IP_ENV)}
