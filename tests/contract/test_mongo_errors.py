"""What the driver raises, and what it logs."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator

import pytest
from channel_log import ChannelLog
from mongo_pods import about, pods
from support.mongo import faults
from support.mongo.commands.call import Call
from support.mongo.errors import ErrorCode
from support.mongo.wire import Document

from chatkernel.errors import ChatError, Code
from chatkernel.logs import configure_logs
from chatkernel.storage.model import User, Watermark


async def test_a_full_disk_is_told_as_that_whatever_is_written() -> None:
    async def hook(call: Call) -> Document:
        if not about(call, "memberships"):
            return await call.proceed()
        full = {"index": 0, "code": int(ErrorCode.OUT_OF_DISK_SPACE), "errmsg": "full"}
        return {"n": 0, "nModified": 0, "ok": 1.0, "writeErrors": [full]}

    async with pods() as running:
        store = await running.start()
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await log.say("u_ann", "x")
        await store._trail.settle()
        failing = running.on("update", hook)
        with pytest.raises(ChatError) as refused:
            await store.put_watermarks([Watermark(log.channel_id, "u_bob", 2, 2)])
        assert refused.value.code is Code.STORAGE_FULL
        failing.remove()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a process logs that was told to log all there is."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {name: logging.getLogger(name).level for name in ("pymongo", "httpx", "uvicorn.access")}
    written = io.StringIO()
    configure_logs("chatpod", "pod-1", "DEBUG")
    root.addHandler(logging.StreamHandler(written))
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in others.items():
        logging.getLogger(name).setLevel(before)


async def test_no_log_holds_a_text_or_a_password_hash(lines: io.StringIO) -> None:
    async with pods() as running:
        store = await running.start()
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await log.say("u_ann", "a-text-of-somebody")
        await store.create_user(User("u_ann", "ann", "Ann", 1), "a-password-hash")
        # An error of the driver carries all that it was to write.
        for refused in ("insert", "update"):
            running.on(refused, faults.fails(ErrorCode.OUT_OF_DISK_SPACE))
        with pytest.raises(ChatError):
            await log.say("u_ann", "a-text-of-somebody")
        with pytest.raises(ChatError) as failed:
            await store.create_user(User("u_bob", "bob", "Bob", 1), "a-password-hash")
        told = "".join(traceback.format_exception_only(failed.value))
    assert "a-text-of-somebody" not in told and "a-password-hash" not in told
    assert "a-text-of-somebody" not in lines.getvalue()
    assert "a-password-hash" not in lines.getvalue()
