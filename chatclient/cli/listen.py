"""`chatctl listen`: messages as they come, what happens to the connection, and lines typed as answers."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import termios
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from chatclient.cli.common import Fail, session_path
from chatclient.cli.names import Names
from chatclient.client import ChatClient
from chatclient.errors import Closed
from chatclient.http import Api
from chatclient.listener import Down, Ended, StateChange, Up
from chatkernel.errors import ChatError
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ConversationPage

CONNECT_TIMEOUT_S = 10.0
UNREAD_MAX = 20
"""Unread messages per conversation that a first `listen` shows."""

LOOK_AGAIN_S = 0.2
"""How often a `listen` in the background looks whether it is in the foreground again."""


class Ear:
    """One listening person. `target`: where typed lines go (None: where the last message came from)."""

    def __init__(self, api: Api, who: str, data: Path, *, target: str | None, as_json: bool) -> None:
        self._as_json, self._target = as_json, target
        self._client = ChatClient(
            api.base_url,
            tokens=api.tokens,
            credentials=api.credentials,
            cache_path=session_path(data, who).with_suffix(".db"),
            store=api.store,
            agent="chatctl",
        )
        self._names = Names(self._client.api)
        self._last_from: str | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._shown_as_typed: set[str] = set()
        """Keys of messages that stand on the terminal already, where their writer typed them."""

    async def client_lines(self) -> AsyncGenerator[str, None]:
        """Lines to print until the session ends; whoever asks for the next has printed the one before: it is
        marked as read then. Raises ChatError, Closed, Unreachable, Fail."""
        lines: asyncio.Queue[Event | StateChange | str] = asyncio.Queue()
        listening = asyncio.create_task(self._listen(lines), name="listen")
        await asyncio.sleep(0)  # so that nothing of the first sync is missed
        if sys.stdin.isatty() and not self._as_json:
            self._read_typed(lines)
        try:
            async with self._client:
                knows_nothing = not self._client.cursors
                await self._client.connect(CONNECT_TIMEOUT_S)
                if knows_nothing:
                    for event in await self._unread():
                        for line in await self._lines_of(event):
                            yield line
                        self._mark_read(event)
                while True:
                    change = await lines.get()
                    for line in await self._lines_of(change):
                        yield line
                    self._mark_read(change)
                    if isinstance(change, Ended):
                        raise Fail(change.reason)
        finally:
            listening.cancel()

    async def _unread(self) -> list[Event]:
        """What waited for the person before this device was there: a sync begins where the device came in."""
        first_live = dict(self._client.cursors)
        page = await self._client.api.call("GET", "/v1/channels", kind=ConversationPage)
        events: list[Event] = []
        for line in page.conversations:
            if line.unread:
                view = await self._client.history(line.channel_id, limit=min(line.unread, UNREAD_MAX))
                events += [item.event for item in view.items]
        return [
            event
            for event in sorted(events, key=lambda event: event.message_id)
            if event.kind is EventKind.MESSAGE
            and event.sender_id != self._client.user_id
            and event.seq <= first_live.get(event.channel_id, 0)
        ]

    async def _listen(self, lines: asyncio.Queue[Event | StateChange | str]) -> None:
        async for change in self._client.changes():
            lines.put_nowait(change)

    async def _lines_of(self, change: Event | StateChange | str) -> list[str]:
        if isinstance(change, str):
            return [change]
        if isinstance(change, Event):
            return await self._lines_of_event(change)
        if self._as_json:
            record = {"type": type(change).__name__.lower(), **_fields(change)}
            return [msgspec.json.encode(record).decode()]
        return _state_lines(change)

    async def _lines_of_event(self, event: Event) -> list[str]:
        if self._as_json:
            return [msgspec.json.encode(event).decode()]
        if event.client_msg_id in self._shown_as_typed and event.sender_id == self._client.user_id:
            self._shown_as_typed.discard(event.client_msg_id)
            return []
        await self._names.learn([event.sender_id, *(event.users or ())])
        at = datetime.fromtimestamp(event.created_at / 1000).astimezone().strftime("%H:%M:%S")
        if event.kind is not EventKind.MESSAGE:
            return [f"{at}  {self._names.what_happened(event)}"]
        if self._target is None and event.sender_id != self._client.user_id:
            self._last_from = event.channel_id
        return [f"{at}  {self._names.of(event.sender_id)}: {event.text}"]

    def _mark_read(self, change: Event | StateChange | str) -> None:
        """Not for a program: what it does with an event is its own affair."""
        if isinstance(change, Event) and not self._as_json:
            self._client.mark_read(change.channel_id, change.seq)

    def _read_typed(self, lines: asyncio.Queue[Event | StateChange | str]) -> None:
        """Every typed line is a message. It stands on the terminal where it was typed and is not shown again,
        unless the terminal does not echo; one that cannot be stored is told of.

        A thread reads them: a loop would make the terminal non-blocking, and with it our output, of which a
        slow terminal then loses what it cannot take at once.
        """
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody to tell
                loop.call_soon_threadsafe(self._typed, text, lines)

        threading.Thread(
            target=_read_lines, args=(sys.stdin.fileno(), tell), name="typed lines", daemon=True
        ).start()

    def _typed(self, text: str, lines: asyncio.Queue[Event | StateChange | str]) -> None:
        channel_id = self._target or self._last_from
        if channel_id is None:
            lines.put_nowait("(nobody to answer yet: use --to NAME)")
            return
        task = asyncio.create_task(self._say(channel_id, text, lines))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _say(self, channel_id: str, text: str, lines: asyncio.Queue[Event | StateChange | str]) -> None:
        key = new_client_msg_id()
        if _echoes(sys.stdin.fileno()) and sys.stdout.isatty():
            self._shown_as_typed.add(key)
        try:
            await self._client.send(channel_id, text, client_msg_id=key)
        except ChatError as error:
            lines.put_nowait(f"(not sent: {error.detail})")
        except Closed as error:
            lines.put_nowait(f"(not sent: {error.reason})")


def _read_lines(fd: int, tell: Callable[[str], None]) -> None:
    """Until the end of the file. Not through `sys.stdin`: a thread that waits in its buffer makes Python's end
    fail."""
    pending = b""
    with suppress(OSError):  # the terminal is gone
        while True:
            select.select([fd], [], [])
            if not _in_foreground(fd):  # to read now would stop the whole process (SIGTTIN)
                time.sleep(LOOK_AGAIN_S)
                continue
            data = os.read(fd, 65_536)
            *whole, pending = (pending + (data or b"\n")).split(b"\n")
            for line in whole:
                if text := line.decode(errors="replace").strip():
                    tell(text)
            if not data:
                return


def _echoes(fd: int) -> bool:
    """Whether the terminal shows what is typed."""
    try:
        return bool(termios.tcgetattr(fd)[3] & termios.ECHO)
    except termios.error:
        return False


def _in_foreground(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal that controls us
        return True


def _fields(change: StateChange) -> dict[str, object]:
    return {name: getattr(change, name) for name in change.__slots__}


def _state_lines(change: StateChange) -> list[str]:
    if isinstance(change, Up):
        if change.from_pod is None:
            return [f"(connected to {change.pod})"]
        if change.moved:
            return [f"({change.from_pod} asked to move: now on {change.pod}, nothing interrupted)"]
        count = change.caught_up
        caught_up = f", {count} {'message' if count == 1 else 'messages'} caught up" if count else ""
        return [
            f"(pod {change.from_pod} gone, moved to {change.pod} in {change.took_s:.1f} s, "
            f"nothing missed{caught_up})"
        ]
    if isinstance(change, Down):
        return [f"(connection to {change.pod} lost, looking for another)"]
    return []
