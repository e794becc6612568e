"""The laptop's place for pods: child processes of this one, on ports of the loopback address."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from chatkernel.lifeline import LIFELINE_ENV, LISTEN_FD_ENV
from chatkernel.opstoken import ops_token
from chatkernel.settings import CONFIG_ENV, SecretFile
from chatoperator.localpod import LocalPod
from chatoperator.logfiles import prepare_log
from chatoperator.model import PodKind, PodView
from chatoperator.place import DrainOrder, PlaceError, PodSpec
from chatoperator.podsettings import Surroundings, service_settings
from chatoperator.prefork import Child, Prefork, execute

log = logging.getLogger(__name__)

PORT_FIRST, PORT_LAST = 20_000, 29_999
"""Below the ports that the system gives to outgoing connections, so that those never take a pod's port."""

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


class PodFiles(msgspec.Struct, frozen=True):
    """Where pods' files go. `names` holds the last number used, so that a name is never used twice."""

    settings: Path
    logs: Path
    names: Path


class LocalPlace:
    """Implements PlaceForPods. `changed` wakes the reconcile loop."""

    def __init__(
        self,
        files: PodFiles,
        around: Surroundings,
        secrets: SecretFile,
        *,
        shared_socket: socket.socket | None = None,
        marker: tuple[str, str] = ("", ""),
        on_pid: Callable[[int], None] = lambda _: None,
        commands: Mapping[PodKind, Sequence[str]] | None = None,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`commands` other than COMMANDS are started as given; ours are forked where that works."""
        self._files, self._around, self._commands = files, around, commands or COMMANDS
        self._token, self._marker, self._on_pid = ops_token(secrets), marker, on_pid
        self._shared_socket, self._now, self._rng = shared_socket, now, rng or random.Random()
        self.changed = changed
        self.pods: dict[str, LocalPod] = {}
        self.restarts: dict[PodKind, int] = dict.fromkeys(PodKind, 0)
        self._inherited: dict[PodKind, list[int]] = {kind: [] for kind in PodKind}
        # Children hold the read end; when this process is gone, however it went, they read end of file.
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._prefork: Prefork | None = None
        if CAN_FORK and any(self._commands[kind] == COMMANDS[kind] for kind in PodKind):
            modules = [*MODULES.values(), SCHEMA_JOB]
            self._prefork = Prefork(
                modules, self._env(PodKind.API), self._fds(PodKind.API), files.logs / "forker.log"
            )

    # -- the port

    def observe(self) -> list[PodView]:
        return [pod.view() for pod in self.pods.values()]

    async def warm_up(self) -> None:
        """Begin what the first start would wait for. Raises OSError."""
        if self._prefork is not None:
            await self._prefork.start()

    async def start(self, pod: PodSpec) -> str:
        try:
            return await self._start(pod)
        except OSError as error:
            raise PlaceError(f"cannot start a {pod.kind} pod: {error.strerror or error}") from error

    async def drain(self, name: str, order: DrainOrder) -> None:
        body = {"deadline_s": order.deadline_s, "rate_per_s": order.rate_per_s}
        self._pod(name).drain(body)

    async def undrain(self, name: str) -> None:
        self._pod(name).undrain()

    async def shed(self, name: str, count: int, rate_per_s: float) -> None:
        self._pod(name).shed({"shed": count, "rate_per_s": rate_per_s})

    async def stop(self, name: str, grace_s: float) -> None:
        self._pod(name).stop(grace_s)

    async def forget(self, name: str) -> None:
        pod = self.pods.pop(name, None)
        if pod is not None:
            self._note_death(pod)
            await pod.close()
            self._settings_file(name).unlink(missing_ok=True)

    # -- by hand

    def condemn(self, name: str) -> None:
        """Have this pod replaced, then drained."""
        self._pod(name).condemned = True
        self.changed()

    def pardon(self, name: str) -> None:
        pod = self._pod(name)
        pod.condemned = False
        if pod.view().draining:
            pod.undrain()
        self.changed()

    def signal(self, name: str, number: signal.Signals) -> None:
        self._pod(name).signal(number)

    async def aclose(self, grace_s: float = 2.0) -> None:
        """Ends every pod: all at once, SIGKILL after the grace. No process is left."""
        pods = list(self.pods.values())
        for pod in pods:
            pod.stop(grace_s)
            pod.signal(signal.SIGCONT)
        for pod in pods:
            if pod.process is not None:
                await pod.ended.wait()
            await pod.close()
        self.pods.clear()
        if self._prefork is not None:
            await self._prefork.aclose()
        for fd in (self._lifeline_read, self._lifeline_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    # -- inside

    def _wake(self) -> None:
        self.changed()  # read late: the loop that is to be woken is made after the place

    def _pod(self, name: str) -> LocalPod:
        try:
            return self.pods[name]
        except KeyError:
            known = ", ".join(self.pods) or "none"
            raise PlaceError(f"no pod {name!r}; there are: {known}") from None

    async def _start(self, spec: PodSpec) -> str:
        name, port = self._new_name(spec.kind), self._free_port()
        settings = service_settings(spec, name, port, self._around)
        config = self._settings_file(name)
        config.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
        env = {**self._env(spec.kind), CONFIG_ENV: str(config)}
        own_env = {variable.name: variable.value for variable in spec.cluster.spec.chat_pods.env}
        replaced = self._inherited[spec.kind]
        pod = LocalPod(
            name,
            spec.kind,
            spec.revision,
            port,
            now=self._now,
            changed=self._wake,
            token=self._token,
            restarts=replaced.pop(0) if replaced else 0,
        )
        log_file = prepare_log(self._files.logs, name)
        pod.adopt(await self._launch(spec.kind, env, own_env, log_file), log_file)
        self.pods[name] = pod
        if pod.pid is not None:
            self._on_pid(pod.pid)
        return name

    async def run_schema_job(self, env: Mapping[str, str]) -> int:
        """Its exit code; what it said is in `schema.log`. Raises OSError."""
        log_file = self._files.logs / "schema.log"
        all_env = {**self._env(PodKind.WORKER), **env}
        child: Child
        if self._prefork is not None:
            child = await self._prefork.spawn(SCHEMA_JOB, all_env, log_file)
        else:
            child = await execute((sys.executable, "-m", SCHEMA_JOB), all_env, log_file, ())
        return await child.wait()

    async def _launch(
        self, kind: PodKind, env: dict[str, str], own_env: dict[str, str], log_file: Path
    ) -> Child:
        if kind is PodKind.CHAT and own_env:
            # Some variables matter only to a program that starts: no fork.
            env |= own_env
        elif self._prefork is not None and self._commands[kind] == COMMANDS[kind]:
            try:
                return await self._prefork.spawn(MODULES[kind], env, log_file)
            except OSError as error:
                log.warning("started without the forker", extra={"error": str(error)})
        return await execute(self._commands[kind], env, log_file, self._fds(kind))

    def _env(self, kind: PodKind) -> dict[str, str]:
        env = {**os.environ, LIFELINE_ENV: str(self._lifeline_read)}
        if self._marker[0]:
            env[self._marker[0]] = self._marker[1]
        if kind is PodKind.API and self._shared_socket is not None:
            # Besides its own port, where its health is asked: the laptop's Service.
            env[LISTEN_FD_ENV] = str(self._shared_socket.fileno())
        return env

    def _fds(self, kind: PodKind) -> tuple[int, ...]:
        shared = self._shared_socket if kind is PodKind.API else None
        return (self._lifeline_read,) if shared is None else (self._lifeline_read, shared.fileno())

    def _note_death(self, pod: LocalPod) -> None:
        """A pod that died unasked hands its count of restarts, one more, to whichever replaces it."""
        if not pod.view().stopping:
            self.restarts[pod.kind] += 1
            self._inherited[pod.kind].append(pod.restarts + 1)

    def _new_name(self, kind: PodKind) -> str:
        try:
            numbers = msgspec.json.decode(self._files.names.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            numbers = {}
        numbers[kind] = numbers.get(kind, 0) + 1
        temporary = self._files.names.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(numbers))
        temporary.replace(self._files.names)
        return f"{kind}-{numbers[kind]}"

    def _free_port(self) -> int:
        taken = {pod.port for pod in self.pods.values()}
        for _ in range(200):
            port = self._rng.randint(PORT_FIRST, PORT_LAST)
            if port in taken:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind((self._around.host, port))
                    return port
        raise OSError("no free port")

    def _settings_file(self, name: str) -> Path:
        return self._files.settings / f"{name}.json"
