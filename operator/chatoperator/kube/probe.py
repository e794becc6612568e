"""What the delivery probe and a worker say of a cluster: asked every few seconds, believed for a little while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from chatkernel.probe_report import ProbeReport
from chatoperator.manifests.names import PORT
from chatoperator.minihttp import PodHttp
from chatoperator.model import DeliveryView

log = logging.getLogger(__name__)

ASK_S = 2.0
STORE_ASK_S = 5.0
ASK_TIMEOUT_S = 1.0
BELIEVED_S = 15.0
"""What the probe measured longer ago says nothing of now."""


class Asker:
    """Asks one pod for `GET /statz` again and again. `look_at` names its address as often as it is known."""

    def __init__(self, every_s: float, heard: Callable[[bytes], None]) -> None:
        self._every_s, self._heard = every_s, heard
        self._ip = ""
        self._task: asyncio.Task[None] | None = None

    def look_at(self, ip: str) -> None:
        """ "" is none."""
        if ip != self._ip:
            self.close()
            self._ip = ip
            if ip:
                self._task = asyncio.create_task(self._run(PodHttp(ip, PORT)), name=f"asks {ip}")

    def close(self) -> None:
        self._ip = ""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, http: PodHttp) -> None:
        try:
            while True:
                try:
                    answer = await http.request("GET", "/statz", timeout_s=ASK_TIMEOUT_S)
                    if answer.status == 200:
                        self._heard(answer.body)
                except OSError as error:
                    log.debug("does not answer", extra={"of": http.host, "error": str(error)})
                await asyncio.sleep(self._every_s)
        finally:
            http.close()


class Prober:
    """What the delivery probe of one cluster says."""

    def __init__(self, *, changed: Callable[[], None], now: Callable[[], float] = time.time) -> None:
        self._changed, self._now = changed, now
        self._asker = Asker(ASK_S, self._note)
        self.report: ProbeReport | None = None
        self._healthy: bool | None = None
        self._since = now()

    def look_at(self, ip: str) -> None:
        self._asker.look_at(ip)

    def close(self) -> None:
        self._asker.close()

    def of(self, pod: str) -> tuple[bool | None, float | None]:
        """Whether this pod delivers (None: unknown), and if not, since when (Unix seconds)."""
        said = self.report.pods.get(pod) if self.report is not None and self._is_believed() else None
        if said is None:
            return None, None
        if said.ok or said.failing_since is None:
            return said.ok or None, None
        return False, said.failing_since / 1000

    def view(self) -> DeliveryView:
        healthy = self._judge()
        if healthy is not self._healthy:
            self._healthy, self._since = healthy, self._now()
        said = self.report or ProbeReport()
        return DeliveryView(
            healthy=healthy,
            since=self._since,
            p50_ms=said.p50_ms,
            p99_ms=said.p99_ms,
            gaps=said.gaps,
            checked_at=said.checked_at / 1000 if self.report is not None else None,
            message=self._words(said) if healthy is False else "",
        )

    def _note(self, body: bytes) -> None:
        before = self._judge()
        try:
            self.report = msgspec.json.decode(body, type=ProbeReport)
        except msgspec.DecodeError as error:
            log.warning("the probe is not understood", extra={"error": str(error)})
            return
        if self._judge() is not before:
            self._changed()

    def _is_believed(self) -> bool:
        return self.report is not None and self._now() - self.report.checked_at / 1000 < BELIEVED_S

    def _judge(self) -> bool | None:
        if self.report is None or not self._is_believed():
            return None
        said = self.report
        return said.gaps == 0 and said.discovery_ok is not False and all(pod.ok for pod in said.pods.values())

    def _words(self, said: ProbeReport) -> str:
        failing = sorted(name for name, pod in said.pods.items() if not pod.ok)
        parts = [f"nothing is delivered by or to {', '.join(failing)}"] if failing else []
        if said.gaps:
            parts.append(f"{said.gaps} messages did not arrive in time")
        if said.discovery_ok is False:
            parts.append("discovery gives no seat")
        return "; ".join(parts)


class _Degraded(Struct):
    degraded: list[str] = []


class StoreWatch:
    """Whether the store of one cluster answers, as a worker of it says: the operator has no database library."""

    def __init__(self, *, changed: Callable[[], None], now: Callable[[], float] = time.time) -> None:
        self._changed, self._now = changed, now
        self._asker = Asker(STORE_ASK_S, self._note)
        self._away_since: float | None = None
        self._told_at = 0.0

    def look_at(self, ip: str) -> None:
        self._asker.look_at(ip)

    def close(self) -> None:
        self._asker.close()

    def away_since(self) -> float | None:
        """None: it answers, or nobody knows."""
        return self._away_since if self._now() - self._told_at < BELIEVED_S else None

    def _note(self, body: bytes) -> None:
        try:
            away = "store" in msgspec.json.decode(body, type=_Degraded).degraded
        except msgspec.DecodeError:
            return
        self._told_at = self._now()
        if away is (self._away_since is None):
            self._away_since = self._now() if away else None
            self._changed()
