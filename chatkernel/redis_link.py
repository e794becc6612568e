"""One connection to Redis that everyone shares: what is called in one turn of the loop goes out in one write.

The client library connects, logs in and speaks TLS; from then on its socket is ours. A call costs about a
fifth of the library's own, and an outage ends all calls in flight together, at one deadline, instead of one
after the other.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]

CONNECT_TIMEOUT_S = 2.0
"""To connect and log in."""

PROBE_PAUSE_S = 0.25
"""Between two attempts to reach a Redis that hangs."""

LATE_S = 0.05
"""Between the deadline of a call and giving the connection up."""

UNSENT_MAX_BYTES = 32 * 1024 * 1024
"""Bytes that the socket has not taken; beyond it calls fail at once."""


class MovedError(ResponseError):
    """The key's slot is at another node of the cluster; the command has not run."""


class AskError(ResponseError):
    """The key is on its way to another node, and there already; the command has not run."""


class TryAgainError(ResponseError):
    """Some of the keys are on their way; the command has not run."""


class ClusterDownError(ResponseError):
    """The cluster has nobody for the slot, or the node is cut off from most others; the command has not run."""


_OF_ONE_COMMAND = frozenset({"ERR", "WRONGTYPE", "NOSCRIPT", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT"})


def is_of_the_server(error: Exception) -> bool:
    """Whether it would have answered any other command so, too: it is away, or full, or may not be written."""
    return not isinstance(error, ResponseError) or str(error).partition(" ")[0] not in _OF_ONE_COMMAND


_ERRORS: dict[str, type[ResponseError]] = {
    "NOSCRIPT": NoScriptError,
    "MOVED": MovedError,
    "ASK": AskError,
    "TRYAGAIN": TryAgainError,
    "CLUSTERDOWN": ClusterDownError,
}

_DEMOTED = frozenset({"READONLY", "UNBLOCKED"})
"""What a server says that was the primary when this connection was made and follows another now."""


class _Call:
    """Replies that one caller waits for."""

    __slots__ = ("deadline", "future", "late", "replies", "wanted")

    def __init__(self, future: asyncio.Future[list[Any]], wanted: int, deadline: float) -> None:
        self.future, self.wanted, self.deadline = future, wanted, deadline
        self.replies: list[Any] = []
        self.late = False


class _Wire(asyncio.Protocol):
    """A connected socket and the calls in flight on it, in order."""

    def __init__(self, connection: AbstractConnection, on_lost: Callable[[_Wire], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=self._error_of)
        self._calls: deque[_Call] = deque()
        self._out: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.lost: Exception | None = None
        # Taking the socket over: the library's objects would close it when they are collected. The writer
        # does, too, so it is kept.
        self._writer = cast(asyncio.StreamWriter, connection._writer)
        connection._writer = connection._reader = None
        self._transport = cast(asyncio.Transport, self._writer.transport)
        self._transport.set_protocol(self)
        # Flow control by the library's stream may be in force; here the deadline bounds what is unread.
        self._transport.resume_reading()

    def call(self, packed: bytes, wanted: int, timeout_s: float) -> asyncio.Future[list[Any]]:
        if self.lost is not None:
            # Between being made and the caller's turn: nobody would end a call that comes after that.
            raise RedisConnectionError("the connection was lost") from self.lost
        if self._transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            raise RedisConnectionError("Redis does not take what is sent")
        call = _Call(self._loop.create_future(), wanted, self._loop.time() + timeout_s)
        self._calls.append(call)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        if self._timer is None:
            self._timer = self._loop.call_at(call.deadline, self._look)
        return call.future

    def close(self, reason: Exception) -> None:
        if self.lost is None:
            self.lost = reason
            self._on_lost(self)
            self._transport.abort()
            if self._timer is not None:
                self._timer.cancel()
            calls, self._calls = self._calls, deque()
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(reason)

    def data_received(self, data: bytes) -> None:
        if self.lost is not None:
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                # Replies come in the order of calls; those of a cancelled call are read all the same.
                call = self._calls[0]
                call.replies.append(reply)
                if len(call.replies) == call.wanted:
                    self._calls.popleft()
                    if not call.future.done():
                        call.future.set_result(call.replies)
        except (hiredis.HiredisError, IndexError) as error:
            self.close(RedisConnectionError(f"Redis sent what was not asked: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(RedisConnectionError(f"Redis closed the connection: {exc}"))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.lost is None:
            self._transport.write(b"".join(out))

    def _error_of(self, text: str) -> ResponseError:
        kind = text.partition(" ")[0]
        if kind in _DEMOTED:
            # Not at once: this is called in the middle of reading what it has answered.
            self._loop.call_soon(self.close, RedisConnectionError("Redis is no primary any more"))
        return _ERRORS.get(kind, ResponseError)(text)

    def _look(self) -> None:
        """One timer for all: only the first call in flight can be the one that holds up the others."""
        self._timer = None
        if not self._calls:
            return
        first, now = self._calls[0], self._loop.time()
        if first.deadline > now:
            self._timer = self._loop.call_at(first.deadline, self._look)
        elif not first.late:
            # After this process itself has stood still the reply may be in the socket, and timers come first.
            first.late = True
            self._timer = self._loop.call_later(LATE_S, self._look)
        else:
            self.close(RedisTimeoutError("Redis did not answer in time"))


class Link:
    """Connects at the first call, and again at the first call after it was lost.

    A Redis that hangs would cost each caller in turn the time-outs of connecting and of the call. So after a
    time-out one task tries to reach it, and until it has, calls fail at once.
    """

    def __init__(self, open_connection: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._open_connection = open_connection
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._callers = 0
        self.losses = 0
        """Connections that were lost: what was written last may be gone, if another server has the data now."""
        self.lost_at = -math.inf
        """The last time (monotonic, seconds), whether or not anybody was waiting for a reply: the server may have
        been restarted in between, with data from before."""
        self._probe: asyncio.Task[None] | None = None

    async def call(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """Raises redis.exceptions.RedisError or OSError; a command that Redis refused is a ResponseError
        among the replies. A cancelled call may have taken effect."""
        if not commands:
            return []
        if self._probe is not None:
            raise RedisConnectionError("Redis hangs")
        # hiredis declares a tuple of one where it takes any.
        packed = b"".join([hiredis.pack_command(cast(Any, command)) for command in commands])
        self._callers += 1
        wire = self._wire
        try:
            if wire is None or wire.lost is not None:
                wire = await self._connect()
            return await wire.call(packed, len(commands), timeout_s)
        except RedisTimeoutError:
            if wire is not None and wire is self._wire:
                self._hangs()
            raise
        finally:
            self._callers -= 1

    @property
    def idle(self) -> bool:
        """Nobody waits for a reply, or for a connection (a server that hangs is tried without anybody waiting)."""
        return self._callers == 0

    async def aclose(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if self._connecting is not None:
            self._connecting.cancel()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close(RedisConnectionError("closed"))

    async def _connect(self) -> _Wire:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open(), name="redis-connect")
            self._connecting.add_done_callback(self._connected)
        # Waited for and not awaited: the caller that began it may be cancelled while others wait for it, and
        # closing the link cancels it without cancelling them.
        connecting = self._connecting
        await asyncio.wait([connecting])
        if connecting.cancelled():
            raise RedisConnectionError("closed")
        return connecting.result()

    async def _open(self) -> _Wire:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return _Wire(await self._open_connection(), self._lost)

    def _lost(self, wire: _Wire) -> None:
        if wire is self._wire:
            self.losses += 1
            self.lost_at = time.monotonic()

    def _connected(self, task: asyncio.Task[_Wire]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._wire = task.result()
        elif isinstance(error, RedisTimeoutError | TimeoutError):
            self._hangs()

    def _hangs(self) -> None:
        if self._probe is None:
            self._probe = asyncio.create_task(self._reach(), name="redis-probe")

    async def _reach(self) -> None:
        """Until Redis answers, or refuses: then calls may find that out for themselves."""
        hangs = True
        try:
            while hangs:
                try:
                    await self._connect()
                except (RedisTimeoutError, TimeoutError):
                    await asyncio.sleep(PROBE_PAUSE_S)
                except (RedisError, OSError):
                    hangs = False
                else:
                    hangs = False
        finally:
            if self._probe is asyncio.current_task():
                self._probe = None
