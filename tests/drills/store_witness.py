"""What a drill cannot see from its clients while the store is broken: that each sender hears in time, that what needs
no store, or was read from it a moment ago, goes on, and that no pod grows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from support.api_calls import sign_up
from support.cluster import Cluster
from support.rawsocket import RawSocket

from chatkernel.backlog import DEADLINE_S
from drills.store_fault import StoreFault

QUICK_S = 1.5
"""For what needs no store."""
MARGIN_S = 2.0
"""For a machine that does other things, too."""
HEALTH_ANSWERS_S = 1.0
RECOVERS_S = 20.0
"""A heartbeat, the store's own time to come up, and a client's patience."""
RSS_GROWS_MAX_KIB = 64 * 1024
"""At any moment, from the beginning on."""
PRESENCE_S = 12.0
"""Blocks are asked of the store, which gives up by itself."""


class StoreWitness:
    """Two people on two pods, in a group and in their 1:1."""

    def __init__(
        self, cluster: Cluster, http: httpx.AsyncClient, sockets: list[RawSocket], channel: str, direct: str
    ) -> None:
        self._cluster, self._http, self._channel, self._direct = cluster, http, channel, direct
        self._ann, self._bob = sockets
        self._keys = itertools.count(1)
        self._open: list[str] = []
        """Keys of what was sent under a fault and has no ack yet."""
        self._pods: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []

    @classmethod
    @asynccontextmanager
    async def of(cls, cluster: Cluster) -> AsyncIterator[StoreWitness]:
        async with httpx.AsyncClient(base_url=cluster.url, trust_env=False, timeout=15) as http:
            ann, bob = [await sign_up(http, name) for name in ("ann", "bob")]
            body = {"kind": "group", "name": "Team", "members": [bob.id]}
            channel = str((await ann.ok("POST", "/v1/channels", body))["channel_id"])
            body = {"kind": "direct", "user_id": bob.id}
            direct = str((await ann.ok("POST", "/v1/channels", body))["channel_id"])
            one, other = await cluster.whole(2)
            sockets = [await RawSocket.log_in(ann, one), await RawSocket.log_in(bob, other)]
            witness = cls(cluster, http, sockets, channel, direct)
            witness._pods = await witness._all_pods()
            for pod in witness._pods.values():
                _forget_peak(pod["pid"])
            yield witness
            for socket in sockets:
                await socket.close()

    async def before(self) -> None:
        """Has the pods read what they then remember for some seconds: that neither of the two blocks the other."""
        await self._within(QUICK_S, "typing in the 1:1 before the fault", self._types(self._direct))

    async def during(self, fault: StoreFault) -> None:
        """What is to be seen while it holds."""
        looks: list[Awaitable[None]] = [
            self._within(QUICK_S, "a ping", self._reads_heads()),
            self._within(QUICK_S, "typing", self._types(self._channel)),
            self._within(QUICK_S, "typing in the 1:1", self._types(self._direct)),
            self._within(
                PRESENCE_S, "presence", self._bob.ask("presence.watch", PRESENCE_S, user_ids=["u_nobody"])
            ),
            self._sends(),
            self._health_answers(),
        ]
        await asyncio.gather(*looks)
        if fault.stops:
            await self._within(DEADLINE_S + MARGIN_S, "the health of the store", self._until_store_is_away())

    async def after(self) -> None:
        """What is to be seen when it is over."""
        for key in self._open:
            try:
                async with asyncio.timeout(RECOVERS_S):
                    while (await self._ann.send(self._channel, key))["type"] != "ack":
                        await asyncio.sleep(0.2)
                    await self._bob.event(self._channel, key, RECOVERS_S)
            except (TimeoutError, AssertionError) as error:
                self.problems.append(f"{key} did not get through afterwards: {error!r}")
        self._open.clear()

    async def final(self) -> list[str]:
        """What was wrong over the whole time."""
        log = [event["client_msg_id"] for event in self._bob.events(self._channel)]
        if len(set(log)) != len(log):
            self.problems.append("the witness saw something twice")
        for socket in (self._ann, self._bob):
            if socket.closed_with is not None:
                self.problems.append(f"a witness's connection was closed with {socket.closed_with}")
        now = await self._all_pods()
        if {name: pod["pid"] for name, pod in now.items()} != {
            name: pod["pid"] for name, pod in self._pods.items()
        }:
            self.problems.append(f"pods were replaced: {sorted(self._pods)} became {sorted(now)}")
        for name in now.keys() & self._pods.keys():
            grown_kib = _peak_kib(now[name]["pid"]) - self._pods[name]["rss_kib"]
            if grown_kib > RSS_GROWS_MAX_KIB:
                self.problems.append(f"{name} had grown by {grown_kib} KiB")
        return list(dict.fromkeys(self.problems))

    # --- looks ---

    async def _within(self, most_s: float, what: str, look: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(most_s):
                await look
        except TimeoutError:
            self.problems.append(f"{what} took more than {most_s:g} s")

    async def _types(self, channel: str) -> None:
        seen = len(self._bob.of("typing", channel_id=channel))
        await self._ann.say("typing", channel_id=channel, on=True)
        while len(self._bob.of("typing", channel_id=channel)) == seen:
            await asyncio.sleep(0.02)

    async def _reads_heads(self) -> None:
        """The pod has them in memory: they are those of what it had sent when it answered."""
        pong = await self._ann.ask("ping")
        heads: dict[str, int] = {}
        for frame in self._ann.frames[: self._ann.frames.index(pong)]:
            heads |= {channel: head["seq"] for channel, head in frame.get("heads", {}).items()}
            if frame["type"] == "event":
                heads[frame["channel_id"]] = frame["seq"]
        if (pong["head_sum"], pong["channels"]) != (sum(heads.values()), len(heads)):
            self.problems.append(f"a pod says {pong} of channels with the heads {heads}")

    async def _sends(self) -> None:
        """An ack or a retryable error, in time."""
        key = f"k{next(self._keys)}"
        frame_id = await self._ann.say("send", channel_id=self._channel, client_msg_id=key, text="hello")
        try:
            answer = await self._ann.answer(frame_id, DEADLINE_S + MARGIN_S)
        except TimeoutError:
            self.problems.append(f"a send was not answered within {DEADLINE_S + MARGIN_S:g} s")
        else:
            if answer["type"] == "error" and not answer["retryable"]:
                self.problems.append(f"a send was refused for good: {answer}")
        self._open.append(key)

    async def _health_answers(self) -> None:
        """Of every pod, whatever it says: one that does not answer is taken for dead."""
        for name, pod in (await self._all_pods(stats=False)).items():
            url = f"http://127.0.0.1:{pod['port']}/readyz"
            await self._within(HEALTH_ANSWERS_S, f"the health of {name}", self._http.get(url))

    async def _until_store_is_away(self) -> None:
        """API pods are not ready, chat pods say that the store is away."""
        pods = await self._all_pods(stats=False)
        waiting = {name for name, pod in pods.items() if pod["kind"] in ("chat", "api")}
        while waiting:
            for name in list(waiting):
                answer = await self._http.get(f"http://127.0.0.1:{pods[name]['port']}/readyz")
                if answer.status_code == 503 or "store" in answer.json().get("degraded", ()):
                    waiting.discard(name)
            await asyncio.sleep(0.1)

    async def _all_pods(self, stats: bool = True) -> dict[str, dict[str, Any]]:
        found = {pod["name"]: pod for pod in (await self._cluster.order("status"))["pods"]}
        if stats:
            for pod in found.values():
                answer = await self._http.get(f"http://127.0.0.1:{pod['port']}/statz")
                pod["rss_kib"] = answer.json()["rss_kib"]
        return found


def _forget_peak(pid: int) -> None:
    """From now on the system notes the most memory that the process has at any moment."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
