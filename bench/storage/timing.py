"""Windows of calls, one after the other, and of appends by many senders at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from bench import machine
from bench.errors import BenchError
from bench.plans import Window
from bench.storage.calls import Call, Reading
from bench.storage.shape import Channel
from bench.storage.store import Measured
from chatkernel.appender import Appender
from chatkernel.drafts import Draft, Placed
from chatkernel.errors import ChatError
from chatkernel.ids import new_client_msg_id, now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.store import Store

POD, STORE = 0, 1
"""Whose CPU seconds of a window."""
TEXT = "m" * 60
WARM_CALLS = 20
CHANNELS_AT_ONCE = 16
CHOICES = 50_000
ANSWER_S = 20.0


class Clocks:
    """Of a stretch of time."""

    def __init__(self, measured: Measured) -> None:
        self._measured, self._stolen_s = measured, machine.stolen_s()
        self._store_s, self._pod_s, self._at = measured.cpu_s(), time.process_time(), time.perf_counter()

    def window(self, latencies_s: list[float]) -> Window:
        wall_s, pod_s = time.perf_counter() - self._at, time.process_time() - self._pod_s
        store_s, stolen_s = self._measured.cpu_s() - self._store_s, machine.stolen_s() - self._stolen_s
        return Window(
            wall_s=wall_s,
            events=len(latencies_s),
            acks=len(latencies_s),
            pages=0,
            cpu_s={POD: pod_s, STORE: store_s},
            client_cpu_s=0.0,
            latencies_us=sorted(round(each * 1e6) for each in latencies_s),
            stolen_share=stolen_s / (wall_s * len(machine.CORES)),
        )


async def time_calls(
    measured: Measured,
    at: Reading,
    make: Callable[[Reading], Awaitable[Call]],
    windows: int,
    window_s: float,
) -> list[Window]:
    """One caller, who asks again when it has the answer: what a call takes on an idle pod."""
    for _ in range(WARM_CALLS):
        started_s = time.perf_counter()
        await (await make(at))()
        if time.perf_counter() - started_s > window_s:
            break
    found = []
    for _ in range(windows):
        latencies_s: list[float] = []
        clocks, until_s = Clocks(measured), time.perf_counter() + window_s
        while time.perf_counter() < until_s:
            call = await make(at)
            begun_s = time.perf_counter()
            await call()
            latencies_s.append(time.perf_counter() - begun_s)
        found.append(clocks.window(latencies_s))
    return found


def appender_of(store: Store) -> Appender:
    """A pod's, with nobody to tell."""
    return Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None)


async def send_everywhere(appender: Appender, at: Reading, channels: Sequence[Channel]) -> None:
    """Once to each: from then on the appender remembers where their logs end, as a pod in service does."""
    for start in range(0, len(channels), CHANNELS_AT_ONCE):
        some = channels[start : start + CHANNELS_AT_ONCE]
        await asyncio.gather(
            *(
                appender.append(
                    channel_id=channel.channel_id,
                    sender_id=at.chance.choice(channel.members),
                    client_msg_id=new_client_msg_id(),
                    kind=EventKind.MESSAGE,
                    members_seq=1,
                    text=TEXT,
                )
                for channel in some
            )
        )


class Senders:
    """So many people who send again as soon as they have their ack, through the pod's own appender."""

    def __init__(self, appender: Appender, at: Reading, senders: int, channels: Sequence[Channel]) -> None:
        self._appender = appender
        chosen = at.chance.choices(channels, k=CHOICES)
        self._places = cycle([(each.channel_id, at.chance.choice(each.members)) for each in chosen])
        """Chosen ahead: it is not the pod's work."""
        self._run_id, self._number, self._on = new_client_msg_id()[:10], 0, True
        self._latencies_s: list[float] = []
        self._error: ChatError | None = None
        for _ in range(senders):
            self._send()

    def _send(self) -> None:
        self._number += 1
        channel_id, sender_id = next(self._places)
        begun_s = time.perf_counter()

        def done(placed: Placed | None, error: ChatError | None, _duplicate: bool) -> None:
            if placed is None:
                self._error, self._on = error, False
                return
            self._latencies_s.append(time.perf_counter() - begun_s)
            if self._on:
                self._send()

        self._appender.submit(
            Draft(
                channel_id=channel_id,
                sender_id=sender_id,
                client_msg_id=f"{self._run_id}{self._number:010d}",
                kind=EventKind.MESSAGE,
                members_seq=1,
                done=done,
                text=TEXT,
            )
        )

    async def window(self, measured: Measured, window_s: float) -> Window:
        """Raises BenchError when the store refused."""
        self._latencies_s, clocks = [], Clocks(measured)
        until_s = time.perf_counter() + window_s
        give_up_s = until_s + ANSWER_S
        await asyncio.sleep(window_s)
        while not self._latencies_s and self._error is None and time.perf_counter() < give_up_s:
            await asyncio.sleep(0.01)
        found = clocks.window(self._latencies_s)
        if self._error is not None or not found.acks:
            raise BenchError(f"append: {self._error or 'no answer'}")
        return found

    async def stop(self) -> None:
        self._on = False
        await self._appender.aclose()


async def time_appends(
    measured: Measured,
    appender: Appender,
    at: Reading,
    senders: int,
    channels: Sequence[Channel],
    windows: int,
    window_s: float,
) -> list[Window]:
    sending = Senders(appender, at, senders, channels)
    try:
        await sending.window(measured, window_s / 2)
        return [await sending.window(measured, window_s) for _ in range(windows)]
    finally:
        await sending.stop()
