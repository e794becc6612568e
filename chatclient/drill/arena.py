"""What the faults of a drill work on: the devices, the cluster's control socket, and what the faults tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from chatclient.control import ClusterStatus, Control, Refused
from chatclient.drill.crowd import Device
from chatclient.drill.moves import Seating
from chatclient.drill.slowness import SlowReader
from chatclient.errors import Unreachable

WAIT_NOTICED_S = 15.0

WAIT_WHOLE_S = 60.0
"""How long the cluster may take to be as it was."""


class NoControl(Exception):
    """A fault that needs the cluster's control socket, and there is none."""


class DrillError(Exception):
    """The drill could not be run; a sentence for a person."""


@dataclass(slots=True)
class Arena:
    """What faults work on. `lost_at`: device → when its pod was killed; filled by faults, read by the
    runner."""

    devices: list[Device]
    control: Control | None
    rng: Random
    now: Callable[[], float]
    hold_s: float = 0.0
    """How long a fault by a program lasts."""
    environ: dict[str, str] = field(default_factory=dict)
    """What such a program is told of the cluster."""
    lost_at: dict[Device, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seatings: list[Seating[Device]] = field(default_factory=list)
    """Where devices were when pods were asked to go."""
    hit: set[Device] = field(default_factory=set)
    """Devices that lost or may lose their connection by a fault that is no drain."""
    slow: list[SlowReader] = field(default_factory=list)

    def forget(self) -> None:
        """Before the next fault."""
        for kept in (self.lost_at, self.notes, self.seatings, self.hit, self.slow):
            kept.clear()

    def hit_all_on(self, pod: str) -> None:
        self.hit.update(device for device in self.devices if device.client.pod == pod)

    def note_seats(self) -> Seating[Device]:
        """Call before pods are asked to go, and say in it afterwards which of them went."""
        pods = {device: pod for device in self.devices if (pod := device.client.pod) is not None}
        self.seatings.append(Seating(self.now(), pods))
        return self.seatings[-1]

    def server(self) -> Control:
        if self.control is None:
            raise NoControl
        return self.control

    def busiest_choice(self) -> str:
        """A pod that has clients."""
        pods = sorted({pod for device in self.devices if (pod := device.client.pod) is not None})
        if not pods:
            raise Unreachable("no client is connected")
        return self.rng.choice(pods)

    async def pods(self, kind: str) -> list[str]:
        return (await self.server().status()).ready(kind)

    async def present(self, kind: str) -> set[str]:
        """Pods that are there, in whatever state."""
        return {pod.name for pod in (await self.server().status()).pods if pod.kind == kind}

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Looks 20 times a second: nobody tells us of three hundred clients' states at once."""
        deadline = self.now() + timeout_s
        while not condition():
            if self.now() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def noticed(self, told: Callable[[ClusterStatus], bool]) -> None:
        """Waits until the cluster says so of itself: before that it looks whole."""
        deadline = self.now() + WAIT_NOTICED_S
        while not told(await self.server().status()) and self.now() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def whole(self, chat_pods: int) -> bool:
        """Waits until that many chat pods, an API pod and a worker serve, and no other chat pod is left; False
        when it takes too long."""
        deadline = self.now() + WAIT_WHOLE_S
        while self.now() < deadline:
            with suppress(Refused, Unreachable):
                status = await self.server().status()
                counts = {kind: len(status.ready(kind)) for kind in ("chat", "api", "worker")}
                present = sum(pod.kind == "chat" for pod in status.pods)
                if present == counts["chat"] == chat_pods and counts["api"] and counts["worker"]:
                    return True
            await asyncio.sleep(0.1)
        self.notes.append("the cluster was not whole again in time")
        return False
