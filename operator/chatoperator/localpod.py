"""One pod as a child process: started in its own session, asked for its health, ended with a grace period."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatoperator.minihttp import Answer, PodHttp
from chatoperator.model import PodKind, PodView
from chatoperator.prefork import Child

log = logging.getLogger(__name__)

PROBE_STARTING_S = 0.05
PROBE_READY_S = 0.5
PROBE_TIMEOUT_S = 1.0
ORDER_TIMEOUT_S = 2.0


class LocalPod:
    """Knows all about one child. `changed` is called whenever what `view` tells may have changed."""

    def __init__(
        self,
        name: str,
        kind: PodKind,
        revision: str,
        port: int,
        *,
        now: Callable[[], float],
        changed: Callable[[], None],
        token: str,
        restarts: int = 0,
    ) -> None:
        self.name, self.kind, self.revision, self.port, self.restarts = name, kind, revision, port, restarts
        self._now, self._changed, self._token = now, changed, token
        self.process: Child | None = None
        self.stats: dict[str, Any] = {}
        self.messages_per_s = 0.0
        self.condemned = False
        self.started_at = now()
        self._ready = self._ever_ready = self._stopping = False
        self._drain_intent = self._drain_told = False
        self._undrains = 0
        """How often it heard that it stays."""
        self._draining_since: float | None = None
        self._unready_since: float | None = None
        self._answered_at: float | None = None
        self._probe_http, self._order_http = PodHttp("127.0.0.1", port), PodHttp("127.0.0.1", port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._order: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        self._log_file = Path()

    # -- life

    def adopt(self, process: Child, log_file: Path) -> None:
        """The process that this pod is from now on."""
        self.process, self._log_file = process, log_file
        self._spawn_task(self._wait(process))
        self._spawn_task(self._probe_forever())

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def stop(self, grace_s: float) -> None:
        """Begin to end it; more calls change nothing but a shorter grace."""
        if not self._stopping or grace_s == 0:
            self._stopping = True
            self._spawn_task(self._end(grace_s))

    async def close(self) -> None:
        """After the process has ended: no task and no connection is left."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._probe_http.close()
        self._order_http.close()

    async def _wait(self, process: Child) -> None:
        code = await process.wait()
        self.ended.set()
        self._ready = False
        if self._stopping:
            log.info("pod ended", extra={"of": self.name})
        else:
            log.warning("pod died", extra={"of": self.name, "exit_code": code, "log": str(self._log_file)})
        self._changed()

    async def _end(self, grace_s: float) -> None:
        if grace_s > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.ended.wait()
        self.signal(signal.SIGKILL)

    def _spawn_task(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"{self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- health

    async def _probe_forever(self) -> None:
        while self.alive:
            before = self.view()
            await self._probe()
            after = self.view()
            if (before.ready, before.draining, before.connections == 0) != (
                after.ready,
                after.draining,
                after.connections == 0,
            ):
                self._changed()
            await asyncio.sleep(
                PROBE_READY_S if self._ever_ready and not after.draining else PROBE_STARTING_S
            )

    async def _probe(self) -> None:
        undrains = self._undrains
        try:
            ready = await self._probe_http.request("GET", "/readyz", timeout_s=PROBE_TIMEOUT_S)
            stats = await self._probe_http.request("GET", "/statz", timeout_s=PROBE_TIMEOUT_S)
        except OSError:
            self._note_ready(False)
            return
        asked_before, self._answered_at = self._answered_at, self._now()
        self._note_stats(stats, asked_before)
        if self._undrains == undrains:  # else it may have answered before it heard
            self._note_drain()
        self._note_ready(ready.status == 200 and not self._stopping)
        if self._ready and not self._ever_ready:
            self._ever_ready = True
            took_ms = round((self._now() - self.started_at) * 1000)
            log.info("pod ready", extra={"of": self.name, "took_ms": took_ms})

    def _note_ready(self, ready: bool) -> None:
        if ready:
            self._unready_since = None
        elif self._ready:
            self._unready_since = self._now()
        self._ready = ready

    def _note_stats(self, answer: Answer, asked_before: float | None) -> None:
        if answer.status != 200:
            return
        before, self.stats = self.stats, answer.json()
        if asked_before is not None and self._answered_at is not None:
            passed_s = self._answered_at - asked_before
            sent = int(self.stats.get("messages_in", 0)) - int(before.get("messages_in", 0))
            rate = max(0.0, sent / passed_s) if passed_s > 0 else 0.0
            self.messages_per_s += (rate - self.messages_per_s) * min(1.0, passed_s / 2)

    def _note_drain(self) -> None:
        self._drain_told = self.stats.get("state") == "draining"
        if self._drain_told and self._draining_since is None:
            self._draining_since = self._now()
        if not self._drain_told and not self._drain_intent:
            self._draining_since = None

    # -- orders

    def drain(self, body: dict[str, Any]) -> None:
        self._drain_intent = True
        if self._draining_since is None:
            self._draining_since = self._now()
        self._give_order("/drain", body)

    def undrain(self) -> None:
        self._give_order("/undrain", None, then=self._undrained)

    def shed(self, body: dict[str, Any]) -> None:
        self._give_order("/drain", body)

    def _undrained(self) -> None:
        self._drain_intent = self._drain_told = self.condemned = False
        self._draining_since = None
        self._undrains += 1

    def _give_order(self, path: str, body: Any, then: Callable[[], None] | None = None) -> None:
        if (
            self._order is None or self._order.done()
        ):  # else it is on its way, and asked for again if it fails
            self._order = asyncio.create_task(self._send_order(path, body, then), name=f"{self.name}{path}")

    async def _send_order(self, path: str, body: Any, then: Callable[[], None] | None) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            answer = await self._order_http.request(
                "POST", path, headers=headers, body=body, timeout_s=ORDER_TIMEOUT_S
            )
        except OSError as error:
            log.warning("order not heard", extra={"of": self.name, "order": path, "error": str(error)})
            return
        if answer.status >= 300:
            log.warning("order refused", extra={"of": self.name, "order": path, "status": answer.status})
        elif then is not None:
            then()
        self._changed()

    # -- what the plan sees

    def view(self) -> PodView:
        count = self.stats.get("connections")
        return PodView(
            name=self.name,
            kind=self.kind,
            revision=self.revision,
            started_at=self.started_at,
            incarnation=str(self.stats.get("incarnation", "")),
            alive=self.alive,
            ready=self._ready,
            ever_ready=self._ever_ready,
            unready_since=self._unready_since,
            answered_at=self._answered_at,
            told_at=self._answered_at,
            drain_intent=self._drain_intent,
            drain_told=self._drain_told,
            draining_since=self._draining_since,
            condemned=self.condemned,
            stopping=self._stopping,
            connections=count if isinstance(count, int) else None,
        )
