"""What a drill cannot see from its clients: seats, presence, health while a server is away, and that no pod goes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx
from support.api_calls import Person, sign_up
from support.chatctl import Chatctl
from support.rawsocket import RawSocket

from chatclient.control import Control

LOOK_EVERY_S = 0.25
DEGRADED_WITHIN_S = 8.0
"""A renewal every second, which is given up after two."""
WELL_WITHIN_S = 12.0
"""A heartbeat and a little."""
STARTED_S = 15.0


class Witness:
    """Somebody who is connected, asks for seats and who is on line, and looks at the pods; and somebody else, who is
    told when the first one comes or goes."""

    def __init__(
        self, chatctl: Chatctl, http: httpx.AsyncClient, person: Person, socket: RawSocket, watcher: RawSocket
    ) -> None:
        self._control, self._http, self._person = Control(chatctl.data), http, person
        self._socket, self._watcher = socket, watcher
        self._first: dict[str, int] = {}
        self._away: list[dict[str, Any]] = []
        self._looking: asyncio.Task[None] | None = None
        self._states: list[tuple[float, str]] = []
        """What was said of the person, who is on line all the time, whenever it changed."""
        self.problems: list[str] = []

    @classmethod
    @asynccontextmanager
    async def of(cls, chatctl: Chatctl) -> AsyncIterator[Witness]:
        url = (await Control(chatctl.data).status()).url
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http:
            person = await sign_up(http, "witness")
            socket = await RawSocket.log_in(person)
            watcher = await RawSocket.log_in(await sign_up(http, "watcher"))
            witness = cls(chatctl, http, person, socket, watcher)
            try:
                async with asyncio.timeout(STARTED_S):
                    while await witness._presence() != "online":
                        await asyncio.sleep(LOOK_EVERY_S)
                await watcher.ask("presence.watch", user_ids=[person.id])
                witness._first = {pod["name"]: pod["pid"] for pod in await witness.pods()}
                presence = asyncio.create_task(witness._watch_presence())
                try:
                    yield witness
                finally:
                    presence.cancel()
            finally:
                await socket.close()
                await watcher.close()

    async def pods(self) -> list[dict[str, Any]]:
        return list(json.loads(await self._control.ask("status"))["pods"])

    # --- one fault ---

    async def begin(self, away: list[dict[str, Any]]) -> None:
        """`away`: pods that have lost the server by now."""
        self._away = away
        self._looking = asyncio.create_task(self._look_while_away(away)) if away else None

    async def seen_enough(self) -> None:
        """Waits for what is to be seen before the fault is over, or before the next."""
        if self._looking is not None:
            await self._looking

    def end(self) -> None:
        """It is over: from now on things get well."""
        self._looking = asyncio.create_task(self._look_until_well())

    async def _look_while_away(self, away: list[dict[str, Any]]) -> None:
        if not await self._all_degraded(away, True, DEGRADED_WITHIN_S):
            self.problems.append(f"not said to be degraded: {await self._readiness(away)}")
        started = time.monotonic()
        response = await self._person.ask("POST", "/v1/seats", {})
        took_s = time.monotonic() - started
        if response.status_code != 200 or not response.json()["best"]["pod"]:
            self.problems.append(f"no seat while it is away: {response.status_code} {response.text}")
        elif took_s > 1.0:
            self.problems.append(f"a seat took {took_s:.1f} s")
        if any(pod["kind"] == "api" for pod in away) and (state := await self._presence()) != "unknown":
            self.problems.append(f"presence says {state} while it is away")

    async def _look_until_well(self) -> None:
        pods = await self.pods()
        if not await self._all_degraded(pods, False, WELL_WITHIN_S):
            self.problems.append(f"still degraded: {await self._readiness(pods)}")
        state = ""
        for _ in range(int(WELL_WITHIN_S / LOOK_EVERY_S)):
            if (state := await self._presence()) == "online":
                return
            await asyncio.sleep(LOOK_EVERY_S)
        self.problems.append(f"presence says {state} afterwards")

    # --- the end ---

    async def final(self) -> list[str]:
        """What was wrong over the whole time."""
        if self._looking is not None:
            await self._looking
        problems = list(dict.fromkeys(self.problems))
        now = {pod["name"]: pod["pid"] for pod in await self.pods()}
        if now != self._first:
            problems.append(f"pods were replaced: {self._first} became {now}")
        for socket in (self._socket, self._watcher):
            if socket.closed_with is not None:
                problems.append(f"a witness's connection was closed with {socket.closed_with}")
        told = [entry["state"] for frame in self._watcher.of("presence") for entry in frame["entries"]]
        if "offline" in told or not told:
            problems.append(f"a watcher was told of one who was on line: {', '.join(told)}")
        lies = [
            f"{state} at {at_s:.1f} s" for at_s, state in self._states if state not in ("online", "unknown")
        ]
        if lies:
            problems.append(f"presence said of one who was on line: {', '.join(lies)}")
        return problems

    # --- looking ---

    async def _watch_presence(self) -> None:
        started = time.monotonic()
        while True:
            try:
                state = await self._presence()
            except httpx.HTTPError as error:
                state = type(error).__name__
            if not self._states or self._states[-1][1] != state:
                self._states.append((time.monotonic() - started, state))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _presence(self) -> str:
        response = await self._person.ask("GET", f"/v1/presence?user_ids={self._person.id}")
        if response.status_code != 200:
            return f"{response.status_code} {response.text}"
        return str(response.json()["entries"][0]["state"])

    async def _readiness(self, pods: Collection[dict[str, Any]]) -> dict[str, object]:
        answers = await asyncio.gather(
            *(self._http.get(f"http://127.0.0.1:{pod['port']}/readyz") for pod in pods),
            return_exceptions=True,
        )
        return {
            pod["name"]: repr(answer)
            if isinstance(answer, BaseException)
            else (answer.status_code, answer.json())
            for pod, answer in zip(pods, answers, strict=True)
        }

    async def _all_degraded(self, pods: Collection[dict[str, Any]], wanted: bool, within_s: float) -> bool:
        """Whether all of them soon say that something is away (or back), and that they serve nevertheless."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = await self._readiness(pods)
            if all(
                isinstance(said, tuple) and said[0] == 200 and bool(said[1]["degraded"]) is wanted
                for said in found.values()
            ):
                return True
            await asyncio.sleep(LOOK_EVERY_S)
        return False
