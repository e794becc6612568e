"""The prober beside real chat pods that can be made faulty, an API pod, Valkey and SQLite."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
from support.services import Service, Shore
from support.valkey import eventually

from chatkernel.probe_report import ProbeReport

Condition = Callable[[ProbeReport], bool]

BUILD = Path(__file__).with_name("faulty_chat_pod.py")


class Town:
    """Pods and a prober; `faults` are switched by pod."""

    def __init__(self, ground: Shore) -> None:
        self.ground = ground
        self.pods: dict[str, Service] = {}
        self.api: Service | None = None
        self.prober: Service | None = None

    async def settle(self, *names: str, redis_urls: dict[str, str] | None = None) -> None:
        """Start everything; returns when all is known to be well."""
        for name in names:
            self.pods[name] = self._pod(name, (redis_urls or {}).get(name))
        self.api = self.ground.start("apipod.main", "api-1")
        for service in (*self.pods.values(), self.api):
            await service.started()
        self.start_prober()
        await self.until(lambda report: self.well(report) == set(names) and report.discovery_ok is True, 60)

    def start_prober(self) -> Service:
        assert self.api is not None
        self.prober = self.ground.start("prober.main", "probe-1", api_url=self.api.url)
        return self.prober

    def _pod(self, name: str, redis_url: str | None) -> Service:
        switch = self.ground.folder / f"{name}.faults"
        switch.write_text("")
        return self.ground.chat_pod(
            name,
            command=[sys.executable, str(BUILD)],
            environ={"CHAT_TEST_FAULTS": str(switch)},
            redis_url=redis_url or self.ground.valkey.url,
        )

    def fault(self, pod: str, fault: str = "") -> None:
        """None of them without a name."""
        (self.ground.folder / f"{pod}.faults").write_text(fault)

    async def report(self) -> ProbeReport:
        assert self.prober is not None
        return msgspec.json.decode((await self.prober.get("/statz")).content, type=ProbeReport)

    @staticmethod
    def well(report: ProbeReport) -> set[str]:
        return {name for name, pod in report.pods.items() if pod.ok}

    @staticmethod
    def blamed(report: ProbeReport) -> set[str]:
        return {name for name, pod in report.pods.items() if not pod.ok}

    async def until(self, condition: Condition, within_s: float) -> ProbeReport:
        found: list[ProbeReport] = []

        async def look() -> bool:
            try:
                report = await self.report()
            except httpx.TransportError:
                return False
            found[:] = [report]
            return condition(report)

        try:
            await eventually(look, within_s)
        except TimeoutError as error:
            raise AssertionError(f"{found}") from error
        return found[0]
