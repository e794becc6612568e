"""People in the examples: an account, sockets, and a record of what is worth showing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chatkernel.protocol import SUBPROTOCOL_JSON
from docs.tools.render import Exchange, Line
from docs.tools.steady import Steady

HEAR_TIMEOUT_S = 15.0


class Wire:
    """One socket. What is said and heard on purpose is in `lines`; what else comes is kept for later, and
    everything is in `transcript`."""

    def __init__(self, who: str, socket: ClientConnection, lines: list[Line], transcript: list[Line]) -> None:
        self.who, self.lines = who, lines
        self._socket, self._transcript = socket, transcript
        self._kept: list[dict[str, Any]] = []

    async def say(self, frame: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(frame))
        self.lines.append(Line(self.who, "->", frame))
        self._transcript.append(self.lines[-1])

    async def hear(self, frame_type: str, /, *, shown: bool = True, **fields: Any) -> dict[str, Any]:
        """The next frame of this type with these values. Raises TimeoutError, ConnectionClosed."""
        frame = await self._next(frame_type, fields)
        if shown:
            self.lines.append(Line(self.who, "<-", frame))
        return frame

    async def hear_close(self) -> None:
        try:
            async with asyncio.timeout(HEAR_TIMEOUT_S):
                while True:
                    await self._receive()
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise
            self.lines.append(Line(self.who, "--", f"closed {closed.rcvd.code} ({closed.rcvd.reason})"))

    async def close(self) -> None:
        await self._socket.close()

    async def _next(self, frame_type: str, fields: dict[str, Any]) -> dict[str, Any]:
        for index, frame in enumerate(self._kept):
            if _is(frame, frame_type, fields):
                return self._kept.pop(index)
        async with asyncio.timeout(HEAR_TIMEOUT_S):
            while True:
                frame = await self._receive()
                if _is(frame, frame_type, fields):
                    return frame
                self._kept.append(frame)

    async def _receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self._socket.recv())
        self._transcript.append(Line(self.who, "<-", frame))
        return frame


def _is(frame: dict[str, Any], frame_type: str, fields: dict[str, Any]) -> bool:
    return frame["type"] == frame_type and all(frame.get(name) == value for name, value in fields.items())


class Person:
    """Somebody with one device."""

    def __init__(self, http: httpx.AsyncClient, steady: Steady, name: str) -> None:
        self._http, self._steady, self.name = http, steady, name
        self.id = self.token = ""
        self.transcript: list[Line] = []
        """Every frame on any of their sockets."""

    async def ask(self, method: str, path: str, body: Any = None) -> Exchange:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        response = await self._http.request(method, path, headers=headers, json=body)
        answer = response.json() if response.content else None
        shown = f"{method} {path}" + ("\nAuthorization: Bearer <access token>" if self.token else "")
        return Exchange(shown, body, response.status_code, answer)

    async def sign_up(self) -> Exchange:
        body = {
            "username": self.name,
            "password": "correct horse battery",
            "device_name": f"{self.name}'s phone",
        }
        exchange = await self.ask("POST", "/v1/accounts", body)
        tokens = exchange.answer
        self.id, self.token = tokens["user_id"], tokens["access_token"]
        self._steady.call(self.id, f"u_{self.name}")
        self._steady.call(tokens["device_id"], f"d_{self.name}_phone")
        self._steady.call(self.token, "<access token>")
        self._steady.call(tokens["refresh_token"], "<refresh token>")
        return exchange

    async def seat(self, exclude: list[str] | None = None) -> Exchange:
        exchange = await self.ask("POST", "/v1/seats", {"exclude": exclude} if exclude else {})
        for seat in (exchange.answer["best"], *exchange.answer["alternatives"]):
            self._steady.call(seat["ticket"], f"<ticket for {seat['pod']}>")
            number = int(seat["pod"].rpartition("-")[2])
            self._steady.call(seat["url"], f"ws://127.0.0.1:{20_000 + number}/v1/socket")
        return exchange

    async def dial(self, lines: list[Line], seats: dict[str, Any]) -> Wire:
        socket = await connect(seats["best"]["url"], subprotocols=[SUBPROTOCOL_JSON])  # type: ignore[list-item]
        return Wire(self.name, socket, lines, self.transcript)

    async def greet(
        self,
        lines: list[Line],
        cursors: dict[str, int],
        frame_id: str = "1",
        exclude: list[str] | None = None,
    ) -> Wire:
        """A new seat, and hello on it: heard up to its ack, shown without the welcome."""
        seats = (await self.seat(exclude)).answer
        wire = await self.dial(lines, seats)
        ticket = seats["best"]["ticket"]
        await wire.say({"type": "hello", "id": frame_id, "ticket": ticket, "cursors": cursors})
        self._steady.call((await wire.hear("welcome", shown=False))["session_id"], "5e55105e55105e55")
        if cursors:
            while True:
                if (await wire.hear("page", id=frame_id)).get("done", True):
                    break
        await wire.hear("ack", id=frame_id)
        return wire
