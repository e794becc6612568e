"""A bare WebSocket session for tests: frames as plain dicts, everything that came kept in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from support.api_calls import Person
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]


async def seat(person: Person, pod: str | None = None, exclude: list[str] | None = None) -> Frame:
    """A seat for the person's device; on this very pod when it is named."""
    seats: Frame = await person.ok("POST", "/v1/seats", {"exclude": exclude or []})
    offered = [seats["best"], *seats["alternatives"]]
    found = next((s for s in offered if pod is None or s["pod"] == pod), None)
    assert found is not None, f"no seat on {pod}: {[s['pod'] for s in offered]}"
    return found


BEAT = "beat"
"""The id of the pings that are sent by themselves."""
BEATS_PER_INTERVAL = 3


class RawSocket:
    """One connection. `frames` has all frames that came, as dicts, each with `_at` (monotonic seconds).

    Once welcome it beats by itself, as every client does, so that a test may take its time; what answers its beats is
    not among the frames. `beats=False` for one that goes silent.
    """

    def __init__(self, connection: ClientConnection, pod: str, beats: bool = True) -> None:
        self.connection, self.pod, self._beats = connection, pod, beats
        self._beating: asyncio.Task[None] | None = None
        self.frames: list[Frame] = []
        self.closed_with: int | None = None
        self._ids = itertools.count(1)
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, url: str, pod: str = "", *, msgpack: bool = False, beats: bool = True, **more: Any
    ) -> RawSocket:
        """Connected, nothing said."""
        protocol = "chat.v1.msgpack" if msgpack else "chat.v1.json"
        more.setdefault("max_size", 64 << 20)
        connection = await connect(
            url,
            subprotocols=[protocol],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
            proxy=None,
            close_timeout=1,
            **more,
        )
        return cls(connection, pod, beats)

    @classmethod
    async def log_in(
        cls,
        person: Person,
        pod: str | None = None,
        *,
        cursors: dict[str, Any] | None = None,
        msgpack: bool = False,
        **more: Any,
    ) -> RawSocket:
        """Connected and in sync: the `ack` of the hello has come."""
        taken = await seat(person, pod)
        socket = await cls.open(taken["url"], taken["pod"], msgpack=msgpack, **more)
        answer = await socket.ask("hello", ticket=taken["ticket"], cursors=cursors or {})
        assert answer["type"] == "ack", answer
        return socket

    # --- saying ---

    async def say(self, kind: str, **fields: Any) -> str:
        """Send a frame; its id."""
        frame_id = fields.pop("id", None) or f"r{next(self._ids)}"
        frame = {"type": kind, "id": frame_id, **fields}
        if self.connection.subprotocol == "chat.v1.msgpack":
            await self.connection.send(msgspec.msgpack.encode(frame))
        else:
            await self.connection.send(json.dumps(frame))
        return frame_id

    async def ask(self, kind: str, within_s: float = 10.0, **fields: Any) -> Frame:
        """Send a frame and wait for its `ack` or `error`."""
        return await self.answer(await self.say(kind, **fields), within_s)

    async def send(self, channel_id: str, key: str, text: str = "hello", **fields: Any) -> Frame:
        return await self.ask("send", channel_id=channel_id, client_msg_id=key, text=text, **fields)

    async def answer(self, frame_id: str, within_s: float = 10.0) -> Frame:
        return await self.until(
            lambda frame: frame["type"] in ("ack", "error", "pong") and frame.get("id") == frame_id, within_s
        )

    # --- hearing ---

    async def until(self, wanted: Callable[[Frame], bool], within_s: float = 5.0) -> Frame:
        """The first frame, of those that came and come, that is wanted."""
        looked = 0
        async with asyncio.timeout(within_s):
            while True:
                for frame in self.frames[looked:]:
                    if wanted(frame):
                        return frame
                looked = len(self.frames)
                if self.closed_with is not None:
                    raise AssertionError(f"closed with {self.closed_with}; had {self.frames[-3:]}")
                self._news.clear()
                await self._news.wait()

    async def event(self, channel_id: str, key: str, within_s: float = 5.0) -> Frame:
        """The live event of this client_msg_id."""
        return await self.until(
            lambda f: f["type"] == "event" and f["channel_id"] == channel_id and f["client_msg_id"] == key,
            within_s,
        )

    async def closed(self, within_s: float = 5.0) -> int:
        """The close code, once it is closed."""
        async with asyncio.timeout(within_s):
            await asyncio.wait([self._reader])
        assert self.closed_with is not None
        return self.closed_with

    def of(self, kind: str, **fields: Any) -> list[Frame]:
        """Frames that came, of one type and with these fields."""
        return [
            frame
            for frame in self.frames
            if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items())
        ]

    def events(self, channel_id: str) -> list[Frame]:
        """Events of a channel as they came: in pages or live."""
        found: list[Frame] = []
        for frame in self.frames:
            events = frame.get("events", []) if frame["type"] == "page" else [frame]
            found += [e for e in events if e["type"] == "event" and e["channel_id"] == channel_id]
        return found

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self.connection.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                data = await self.connection.recv()
                frame: Frame = json.loads(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
                if frame.get("id") == BEAT:
                    continue
                frame["_at"] = time.monotonic()
                self.frames.append(frame)
                self._news.set()
                if frame["type"] == "welcome" and self._beats:
                    self._beating = asyncio.create_task(self._beat(frame["heartbeat_interval_s"]))
        except ConnectionClosed as closed:
            self.closed_with = closed.rcvd.code if closed.rcvd is not None else 1006
            self._news.set()
        finally:
            if self._beating is not None:
                self._beating.cancel()

    async def _beat(self, interval_s: float) -> None:
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(interval_s / BEATS_PER_INTERVAL)
                await self.say("ping", id=BEAT)
