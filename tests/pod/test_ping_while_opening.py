"""A client whose channels take long to open is alive: its pings are answered and count."""

from __future__ import annotations

import asyncio
from typing import Any

from support.cluster import eventually
from support.one_pod import Elsewhere, OnePod
from support.one_socket import Line

from chatkernel.protocol import Ack, Error, Hello, Ping, Pong, Send


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
