"""A client whose channels take long to open is alive: its pings are answered and count."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from support.cluster import eventually
from support.one_pod import Elsewhere, OnePod, Wire

from chatkernel.protocol import Ack, Error, Hello, Limits, Ping, Pong, Send, ServerFrame, encode_json
from chatkernel.settings import ServiceSettings
from chatpod.connection import Flusher
from chatpod.endpoint import Socket
from chatpod.meter import Meters


class Line:
    """A socket's two ends: what the client says, and what was written to it."""

    def __init__(self, pod: OnePod) -> None:
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
        self.socket = Socket(_pod_around(pod), protocol, binary=False)
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


def _pod_around(pod: OnePod) -> Any:
    """What a socket needs of the pod besides the parts under test."""

    async def nothing(*_: object) -> bool:
        return True

    return SimpleNamespace(
        settings=ServiceSettings("c", "p", "r", "", "", ""),
        flusher=Flusher(asyncio.get_running_loop()),
        slow=lambda _: None,
        meters=Meters(Limits()),
        drainer=SimpleNamespace(draining=False),
        lease=SimpleNamespace(incarnation="run"),
        redeemer=SimpleNamespace(redeem=lambda *_: SimpleNamespace(user_id="u_eve", device_id="d")),
        kernel=SimpleNamespace(messaging=SimpleNamespace(check_cursors=lambda _: None)),
        device_is_live=nothing,
        presence=SimpleNamespace(arrived=nothing),
        hub=pod.hub,
        rooms=pod.rooms,
        opener=pod.opener,
    )


async def test_a_ping_before_the_ack_of_hello_is_answered_and_counts_as_life(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group("local_g1", "u_own", "u_eve")
    gate = asyncio.Event()
    pod.store.before("heads", gate.wait)
    line = Line(pod)
    line.say(Hello("h", "ticket"))
    await eventually(_is_in(pod.store.calls, "heads"), step_s=0.005)
    [client] = pod.hub.clients.values()
    client.beat_at = long_ago = asyncio.get_running_loop().time() - 1_000.0
    line.say(Ping("p1"))
    pong = await line.hear(Pong)
    assert isinstance(pong, Pong) and (pong.id, pong.channels) == ("p1", 0)
    assert client.beat_at > long_ago + 999.0 and client.opening
    # Anything else has to wait, and the client is told so.
    line.say(Send("s1", "local_g1", "k1", "too early"))
    refused = await line.hear(Error)
    assert isinstance(refused, Error) and (refused.id, refused.code) == ("s1", "conflict")
    gate.set()
    assert isinstance(ack := await line.hear(Ack), Ack) and ack.id == "h"
    line.wire.frames.clear()
    # The same id again: the ping while opening is no open request.
    line.say(Ping("p1"))
    pong = await line.hear(Pong)
    assert isinstance(pong, Pong) and (pong.head_sum, pong.channels) == (1, 1)
    await line.hang_up()
    assert not pod.hub.clients and not line.wire.closed


def _is_in(calls: list[str], name: str) -> Any:
    async def look() -> bool:
        return name in calls

    return look
