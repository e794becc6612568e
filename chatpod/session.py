"""A client's session as a sans-I/O state machine: bytes in, one outcome out; no sockets, no clocks of its own.

| state    | hello | other frames          | next                                   |
|----------|-------|-----------------------|----------------------------------------|
| GREETING | open  | error and close 1008  | OPENING                                |
| OPENING  | error | `ping` runs, the others: error `conflict` | LIVE when opened   |
| LIVE     | error | run                   | CLOSED                                 |
| CLOSED   | –     | ignored               | –                                      |

After the greeting every frame is counted, with those of the device's other sockets. One too many is refused; who goes
on sending in spite of the refusals is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec import Struct

from chatkernel.errors import ChatError, Close, Code
from chatkernel.live import Live
from chatkernel.problems import error_frame
from chatkernel.protocol import (
    ClientFrame,
    Delete,
    Edit,
    Error,
    Hello,
    Ping,
    React,
    Send,
    decode_client_json,
    decode_client_msgpack,
)
from chatkernel.validation import field_of
from chatpod.meter import Meter

MALFORMED_MAX = 10
"""Refused frames in a row after which the client is closed: it does not speak the protocol."""


class State(StrEnum):
    GREETING = "greeting"
    OPENING = "opening"
    LIVE = "live"
    CLOSED = "closed"


class Refuse(Struct, frozen=True):
    """Answer with this error and go on."""

    error: Error


class Reject(Struct, frozen=True):
    """Answer with this error and close."""

    error: Error
    close: Close


Outcome = Hello | ClientFrame | Refuse | Reject | None

NEXT: dict[State, frozenset[State]] = {
    State.GREETING: frozenset({State.OPENING, State.CLOSED}),
    State.OPENING: frozenset({State.LIVE, State.CLOSED}),
    State.LIVE: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

_COUNTED = (Send, Edit, Delete, React)


class _Header(Struct):
    """What is still read of a frame that is refused, to answer with its id."""

    id: str | None = None


_header_json = msgspec.json.Decoder(_Header)
_header_msgpack = msgspec.msgpack.Decoder(_Header)


class Session:
    """Decodes, counts and limits the frames of one client."""

    __slots__ = (
        "_live",
        "_monotonic_s",
        "_open",
        "_refused",
        "binary",
        "meter",
        "state",
    )

    def __init__(self, live: Live, binary: bool, monotonic_s: Callable[[], float]) -> None:
        self._live, self._monotonic_s = live, monotonic_s
        self.binary, self.state = binary, State.GREETING
        self._open: set[str] | None = None
        self._refused = 0
        self.meter: Meter | None = None
        """The device's, once it is known which that is; until then one of its own."""

    def become(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise AssertionError(f"a session does not go from {self.state} to {state}")
        self.state = state

    def receive(self, data: bytes, is_text: bool) -> Outcome:
        """What to do about a frame's bytes."""
        if self.state is State.CLOSED:
            return None
        if is_text is self.binary:
            wanted = "binary MessagePack" if self.binary else "text JSON"
            return Reject(
                error_frame(None, ChatError(Code.MALFORMED, f"This session speaks {wanted}")), Close.MALFORMED
            )
        if len(data) > self._live.limits.frame_max_bytes:
            return Reject(error_frame(None, self._too_large()), Close.TOO_LARGE)
        try:
            if is_text and not data.isascii():
                data.decode()  # the decoder skips fields that it does not know, whatever bytes they hold
            frame = decode_client_msgpack(data) if self.binary else decode_client_json(data)
        except msgspec.ValidationError as error:
            return self._refuse(self._id_of(data), field_of(error))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Reject(error_frame(None, ChatError(Code.MALFORMED)), Close.MALFORMED)
        self._refused = 0
        return self._admit(frame)

    def _admit(self, frame: ClientFrame) -> Outcome:
        if self.state is State.GREETING:
            if isinstance(frame, Hello):
                return frame
            refusal = ChatError(Code.UNAUTHENTICATED, "The first frame is `hello`", field="type")
            return Reject(error_frame(frame.id, refusal), Close.POLICY)
        now_s = self._monotonic_s()
        meter = self._metered()
        bucket = meter.sends(now_s) if isinstance(frame, _COUNTED) else meter.others(now_s)
        wait_s = bucket.take(now_s)
        if wait_s > 0:
            most = int(bucket.rate_per_s)
            detail = f"At most {most} such frames a second"
            error = ChatError(Code.RATE_LIMITED, detail, field="type", limit=most, retry_after_s=wait_s)
            return self._too_many(frame.id, error, now_s)
        if self.state is State.OPENING:
            if isinstance(frame, Ping):
                return frame
            return self._refuse(frame.id, ChatError(Code.CONFLICT, "Wait for the `ack` of `hello`"))
        if isinstance(frame, Hello):
            return self._refuse(
                frame.id, ChatError(Code.CONFLICT, "This session has said `hello`", field="type")
            )
        if self._open is None:
            self._open = set()
        elif frame.id in self._open:
            return self._refuse(
                frame.id, ChatError(Code.CONFLICT, "A request with this id is open", field="id")
            )
        elif len(self._open) >= self._live.limits.open_requests_max:
            most = self._live.limits.open_requests_max
            detail = f"At most {most} unanswered frames"
            return self._refuse(
                frame.id, ChatError(Code.BUSY, detail, field="id", limit=most, retry_after_s=0.1)
            )
        self._open.add(frame.id)
        return frame

    def broken(self, code: int) -> Error:
        """The transport refused what came, and closes with this code; nothing else is taken."""
        if self.state is not State.CLOSED:
            self.become(State.CLOSED)
        match code:
            case Close.TOO_LARGE:
                return error_frame(None, self._too_large())
            case Close.RATE_LIMITED:
                detail = "Too many control frames, or parts of frames"
                return error_frame(
                    None, ChatError(Code.RATE_LIMITED, detail, field="frame", retry_after_s=1.0)
                )
        return error_frame(None, ChatError(Code.MALFORMED, "Not a WebSocket frame"))

    def _too_large(self) -> ChatError:
        most = self._live.limits.frame_max_bytes
        return ChatError(Code.TOO_LARGE, f"A frame has at most {most} bytes", field="frame", limit=most)

    def finished(self, frame_id: str) -> None:
        """The request has had its `ack` or `error`."""
        if self._open is not None:
            self._open.discard(frame_id)

    def charge(self, frames: float) -> None:
        """The last frame costs as much as this many more that store no event."""
        self._metered().others(self._monotonic_s()).charge(frames)

    def _metered(self) -> Meter:
        if self.meter is None:
            self.meter = Meter(self._live.limits)
        return self.meter

    def _too_many(self, frame_id: str, error: ChatError, now_s: float) -> Outcome:
        """A refusal costs work too. Not counted in a row: the buckets fill all the time, so a few frames of any
        flood are admitted in between."""
        if self._metered().refusals(now_s).take(now_s) > 0:
            return Reject(error_frame(frame_id, error), Close.RATE_LIMITED)
        return self._refuse(frame_id, error)

    def _refuse(self, frame_id: str | None, error: ChatError) -> Outcome:
        if self.state is State.GREETING:
            return Reject(error_frame(frame_id, error), Close.POLICY)
        self._refused += error.code in (Code.INVALID_FIELD, Code.UNKNOWN_TYPE)
        if self._refused >= MALFORMED_MAX:
            return Reject(error_frame(frame_id, error), Close.POLICY)
        return Refuse(error_frame(frame_id, error))

    def _id_of(self, data: bytes) -> str | None:
        try:
            found = (_header_msgpack if self.binary else _header_json).decode(data).id
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        return found if found is not None and len(found) <= 64 else None
