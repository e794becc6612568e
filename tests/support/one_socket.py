"""The endpoint of one socket on the parts of one pod, with both of its ends in the test's hand."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from support.cluster import eventually
from support.one_pod import OnePod, Wire

from chatkernel.gate import Gate
from chatkernel.live import Live
from chatkernel.protocol import ServerFrame, encode_json
from chatkernel.settings import ServiceSettings
from chatpod.connection import Flusher
from chatpod.endpoint import Socket
from chatpod.meter import Meters


class Line:
    """A socket's two ends: what the client says, and what was written to it."""

    def __init__(self, pod: OnePod, **messaging: Any) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.wire = Wire()
        transport = SimpleNamespace(
            is_closing=lambda: False, get_write_buffer_size=lambda: 0, write=self.wire.write
        )
        protocol: Any = SimpleNamespace(
            transport=transport,
            close_with=self.wire.close,
            attach=lambda _: None,
            deliver_directly=lambda: None,
        )
        self.socket = Socket(_pod_around(pod, messaging), protocol, binary=False)
        self.task = asyncio.create_task(self.socket.run(self.said.get, protocol))

    def say(self, frame: Any) -> None:
        self.said.put_nowait({"type": "websocket.receive", "bytes": encode_json(frame), "text": None})

    async def hear(self, kind: type[ServerFrame]) -> ServerFrame:
        async def look() -> Any:
            return next((frame for frame in self.wire.frames if isinstance(frame, kind)), None)

        found: ServerFrame = await eventually(look, step_s=0.005)
        return found

    async def hang_up(self) -> None:
        self.said.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(self.task, 2)


def _pod_around(pod: OnePod, messaging: dict[str, Any]) -> Any:
    """What a socket needs of the pod besides the parts under test."""

    async def nothing(*_: object) -> bool:
        return True

    reading = SimpleNamespace(check_cursors=lambda _: None)

    live = Live()
    return SimpleNamespace(
        settings=ServiceSettings(cluster="c", pod="p", revision="r", secret_file=""),
        flusher=Flusher(asyncio.get_running_loop(), live.limits.outbox_max_bytes),
        slow=lambda _: None,
        live=live,
        meters=Meters(live),
        gate=Gate(live),
        drainer=SimpleNamespace(draining=False),
        lease=SimpleNamespace(incarnation="run"),
        redeemer=SimpleNamespace(redeem=lambda *_: SimpleNamespace(user_id="u_eve", device_id="d")),
        kernel=SimpleNamespace(messaging=SimpleNamespace(reading=reading, **messaging)),
        device_is_live=nothing,
        presence=SimpleNamespace(arrived=nothing),
        hub=pod.hub,
        rooms=pod.rooms,
        opener=pod.opener,
    )
