"""Ready-made hooks: the ways in which a deployment fails, each as MongoDB's documentation has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.mongo.commands.call import Call, Hook, Reset
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document


def fails(code: ErrorCode, message: str = "scripted", **fields: object) -> Hook:
    """Refused, and nothing done."""

    async def hook(_: Call) -> Document:
        raise CommandError(code, message, **fields)

    return hook


def not_writable_primary() -> Hook:
    """This server is not primary any more; nothing was written."""
    return fails(ErrorCode.NOT_WRITABLE_PRIMARY, "not primary")


def interrupted() -> Hook:
    """The command was running when the primary stepped down."""
    return fails(
        ErrorCode.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
        "operation was interrupted due to a replica set state change",
    )


def stored_then(then: Callable[[], None], documents: int) -> Hook:
    """Of an insert, store the first few documents, have something happen, and be interrupted by it.

    With a step-down it is what a primary does in the middle of an insert: what it had stored stays stored.
    """

    async def hook(call: Call) -> Document:
        given = call.command["documents"]
        answer = await call.proceed(call.command | {"documents": given[:documents]})
        if answer["ok"] == 0.0 or "writeErrors" in answer:
            return answer
        then()
        return await interrupted()(call)

    return hook


def write_concern_failed(
    code: ErrorCode = ErrorCode.UNSATISFIABLE_WRITE_CONCERN, message: str = "Not enough data-bearing nodes"
) -> Hook:
    """Stored, but the write concern was not met: the answer is a success with a `writeConcernError`."""

    async def hook(call: Call) -> Document:
        answer = await call.proceed()
        error: Document = {"code": int(code), "codeName": code.code_name, "errmsg": message}
        if code is ErrorCode.WRITE_CONCERN_TIMEOUT:
            concern = call.command.get("writeConcern", {})
            error["errInfo"] = {"wtimeout": True, "writeConcern": {**concern, "provenance": "clientSupplied"}}
        return {**answer, "writeConcernError": error}

    return hook


def stepped_down_after(then: Callable[[], None]) -> Hook:
    """Stored on the primary, which steps down (`then`) while it waits for a majority: a retry asks the next one."""
    failed = write_concern_failed(
        ErrorCode.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
        "operation was interrupted while waiting for replication",
    )

    async def hook(call: Call) -> Document:
        answer = await failed(call)
        then()
        return answer

    return hook


def majority_timed_out() -> Hook:
    """Stored on the primary; no majority confirmed it within `wtimeout`."""
    return write_concern_failed(ErrorCode.WRITE_CONCERN_TIMEOUT, "waiting for replication timed out")


def lags(upto_seq: int, *, superseded: bool = False) -> Hook:
    """For `find`: the majority snapshot of this primary has no events after that seq, though others were acked. So it
    is for a moment after an election. What is linearizable is answered by all that was acked; a primary that is
    `superseded` and does not know it cannot answer that before the time is over."""

    async def hook(call: Call) -> Document:
        command = call.command
        level = command.get("readConcern", {}).get("level")
        if command["find"] != "events" or (level == "linearizable" and not superseded):
            return await call.proceed()
        if level == "linearizable":
            await asyncio.sleep(command["maxTimeMS"] / 1000)
            raise CommandError(ErrorCode.MAX_TIME_MS_EXPIRED, "operation exceeded time limit")
        older = {"$and": [command["filter"], {"seq": {"$lte": upto_seq}}]}
        return await call.proceed(command | {"filter": older})

    return hook


def reset_before() -> Hook:
    """The connection is reset, and nothing was done."""

    async def hook(_: Call) -> Document:
        raise Reset

    return hook


def reset_after() -> Hook:
    """Everything was done; the connection is reset before the answer."""

    async def hook(call: Call) -> Document:
        await call.proceed()
        raise Reset

    return hook


def slow(seconds: float) -> Hook:
    """Done at once, answered late."""

    async def hook(call: Call) -> Document:
        answer = await call.proceed()
        await asyncio.sleep(seconds)
        return answer

    return hook


def held(until: asyncio.Event) -> Hook:
    """Done at once, answered when the test says so."""

    async def hook(call: Call) -> Document:
        answer = await call.proceed()
        await until.wait()
        return answer

    return hook


def one_in(count: int, hook: Hook) -> Hook:
    """Every so many commands the hook; the others go through."""
    came = 0

    async def counting(call: Call) -> Document:
        nonlocal came
        came += 1
        return await (hook(call) if came % count == 0 else call.proceed())

    return counting
