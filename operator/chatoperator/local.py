"""The laptop's place for pods: child processes of this one, on ports of the loopback address."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from chatkernel.opstoken import ops_token
from chatkernel.settings import CONFIG_ENV, LiveSettings, SecretFile
from chatoperator.launcher import Launcher
from chatoperator.localpod import LocalPod
from chatoperator.logfiles import prepare_log
from chatoperator.model import PodKind, PodView
from chatoperator.place import DrainOrder, PlaceError, PodSpec
from chatoperator.podsettings import Surroundings, live_settings, service_settings
from chatoperator.spec import Spec

log = logging.getLogger(__name__)

PORT_FIRST, PORT_LAST = 20_000, 29_999
"""Below the ports that the system gives to outgoing connections, so that those never take a pod's port."""


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
        launcher: Launcher,
        *,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._files, self._around, self._launcher = files, around, launcher
        self._token = ops_token(secrets)
        self._live: LiveSettings | None = None
        self._now, self._rng = now, rng or random.Random()
        self.changed = changed
        self.pods: dict[str, LocalPod] = {}
        self.restarts: dict[PodKind, int] = dict.fromkeys(PodKind, 0)
        self._inherited: dict[PodKind, list[int]] = {kind: [] for kind in PodKind}

    # -- the port

    def observe(self) -> list[PodView]:
        return [pod.view() for pod in self.pods.values()]

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
            try:
                self._settings_file(name).unlink(missing_ok=True)
            except OSError as error:  # of no consequence: the next start empties the folder
                raise PlaceError(f"{name}.json was not removed: {error.strerror or error}") from error

    def follow(self, spec: Spec) -> None:
        """Give all pods what needs no new ones, those that there are and those to come. Raises OSError."""
        wanted = live_settings(spec)
        if wanted == self._live:
            return
        file = Path(self._around.live_file)
        # In one step: pods look all the time.
        temporary = file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(wanted)))
        temporary.replace(file)
        self._live = wanted

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
        variables = spec.cluster.spec.chat_pods.env if spec.kind is PodKind.CHAT else []
        own_env = {variable.name: variable.value for variable in variables}
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
        log_file = prepare_log(self._files.logs, name, self.pods)
        env = {CONFIG_ENV: str(config)}
        pod.adopt(await self._launcher.launch(spec.kind, env, log_file, own_env), log_file)
        self.pods[name] = pod
        return name

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
