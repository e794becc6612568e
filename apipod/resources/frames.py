"""Everything that a socket can send, by HTTP."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from apipod.operation import Answer, Call, Operation
from apipod.services import Services
from chatkernel.errors import ChatError, Code
from chatkernel.messaging import Actor
from chatkernel.problems import PROBLEM_TYPE, Problem, error_frame, error_headers, problem_of
from chatkernel.protocol import (
    Delete,
    Delivered,
    Edit,
    Error,
    History,
    PresenceWatch,
    React,
    Read,
    Send,
    ServerFrame,
    Sync,
    Typing,
)

HttpFrame: TypeAlias = (
    Send | Edit | Delete | React | Read | Delivered | Typing | Sync | History | PresenceWatch
)
"""All client frames but `hello` and `ping`, which are about a socket."""

_THROTTLED = (Send, Edit, Delete, React)


class Frames(Struct, frozen=True):
    """The answering frames, `ack` last."""

    frames: list[ServerFrame]


class FrameProblem(Problem, frozen=True, omit_defaults=True, kw_only=True):
    """The problem of a frame that was refused, with the `error` frame that a socket would have got. What could not
    be read as a frame gets none in return."""

    frames: list[Error] | None = None


async def perform_frame(services: Services, call: Call) -> Frames | Answer:
    """The frame has been read, so what is wrong from here on is answered as a frame with its id."""
    frame: HttpFrame = call.body
    caller = call.caller
    try:
        if isinstance(frame, _THROTTLED):
            await services.send_throttle.check(caller.device_id)
        return Frames(await services.kernel.messaging.perform(Actor(caller.user_id, caller.device_id), frame))
    except ChatError as error:
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        headers["content-type"] = PROBLEM_TYPE
        known = msgspec.structs.asdict(problem_of(error))
        return Answer(FrameProblem(frames=[error_frame(frame.id, error)], **known), error.status, headers)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/frames",
        "performFrame",
        "Do what a client frame says, with the same idempotency as on a socket",
        perform_frame,
        answer=Frames,
        body=HttpFrame,
        errors=(
            Code.CHANNEL_NOT_FOUND,
            Code.MESSAGE_NOT_FOUND,
            Code.FORBIDDEN,
            Code.BANNED,
            Code.BLOCKED,
            Code.CONFLICT,
            Code.LIMIT_REACHED,
            Code.UNKNOWN_TYPE,
            Code.STORAGE_UNAVAILABLE,
            Code.STORAGE_FULL,
            Code.BUSY,
        ),
        error_answer=FrameProblem,
        tag="messages",
    ),
)
