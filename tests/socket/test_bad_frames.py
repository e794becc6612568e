"""What is not a frame, or not allowed, is refused with the catalogue's error or close code; the pod lives on."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest
from support.crew import Crew
from support.rawsocket import RawSocket, seat

from chatkernel.errors import CATALOGUE, Close, Code
from chatkernel.message_ids import LATEST_MS
from chatkernel.protocol import Limits

LIMITS = Limits()


async def logged_in(some: Crew, **more: Any) -> tuple[RawSocket, str]:
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    return await some.socket(ann, **more), channel


@pytest.mark.parametrize(
    ("data", "as_text", "code"),
    [
        (b"not json", True, Close.MALFORMED),
        (b"", True, Close.MALFORMED),
        (b'{"type":"ping","id":"1"', True, Close.MALFORMED),
        (b'{"type":"ping","id":"\xff\xfe"}', True, Close.MALFORMED),
        (b'{"type":"ping","id":"1","unknown":"\xff\xfe"}', True, Close.MALFORMED),
        (b'{"type":"ping","id":"1","\xff":1}', True, Close.MALFORMED),
        (b'{"type":"ping","id":"1","x":"\xed\xa0\x80"}', True, Close.MALFORMED),
        (b'{"type":"ping","id":"1"}', False, Close.MALFORMED),
        (b'{"type":"ping","id":"1","x":' + b"[" * 100_000, True, Close.MALFORMED),
        (b'{"type":"send","metadata":' + b'{"a":' * 50_000, True, Close.MALFORMED),
        (b'"' + b"x" * LIMITS.frame_max_bytes + b'"', True, Close.TOO_LARGE),
    ],
)
async def test_what_is_no_frame_closes_the_session(
    some: Crew, data: bytes, as_text: bool, code: Close
) -> None:
    socket, _ = await logged_in(some)
    await socket.connection.send(data, text=as_text)
    assert await socket.closed() == code
    assert "Traceback" not in str(socket.frames)


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"\x81", b"", b"\x81\xa1x" * 60_000, b"\x81\xa4type\xa4\xff\xff\xff\xff"],
)
async def test_what_is_no_msgpack_closes_the_session(some: Crew, data: bytes) -> None:
    socket, _ = await logged_in(some, msgpack=True)
    await socket.connection.send(data)
    assert await socket.closed() == Close.MALFORMED


async def test_a_document_that_is_no_object_is_refused(some: Crew) -> None:
    """Named as a wrong type, since that is seen before the end of it is."""
    socket, _ = await logged_in(some)
    for data in ("[1]", "7", '"x"', "null", "[" * 100_000):
        seen = len(socket.of("error"))
        await socket.connection.send(data)
        assert (await socket.ask("ping"))["type"] == "pong"
        assert [e["code"] for e in socket.of("error")[seen:]] == ["invalid_field"], data[:10]


async def test_text_in_a_msgpack_session_closes_it(some: Crew) -> None:
    socket, _ = await logged_in(some, msgpack=True)
    await socket.connection.send('{"type":"ping","id":"1"}')
    assert await socket.closed() == Close.MALFORMED


REFUSED: list[tuple[dict[str, Any], Code, str | None]] = [
    ({"type": "sing"}, Code.UNKNOWN_TYPE, "type"),
    ({"type": 7}, Code.INVALID_FIELD, "type"),
    ({"type": "welcome"}, Code.UNKNOWN_TYPE, "type"),
    ({"type": "hello", "ticket": "x"}, Code.CONFLICT, "type"),
    ({"type": "send", "channel_id": "c", "client_msg_id": "k"}, Code.INVALID_FIELD, "text"),
    ({"type": "send", "channel_id": 7, "client_msg_id": "k", "text": "x"}, Code.INVALID_FIELD, "channel_id"),
    ({"type": "send", "channel_id": "", "client_msg_id": "k", "text": "x"}, Code.INVALID_FIELD, "channel_id"),
    ({"type": "send", "client_msg_id": "k" * 65, "text": "x"}, Code.INVALID_FIELD, "client_msg_id"),
    ({"type": "send", "client_msg_id": "", "text": "x"}, Code.INVALID_FIELD, "client_msg_id"),
    ({"type": "send", "text": ""}, Code.INVALID_FIELD, "text"),
    ({"type": "send", "text": "a\0b"}, Code.INVALID_FIELD, "text"),
    ({"type": "send", "text": "x" * (LIMITS.text_max_bytes + 1)}, Code.INVALID_FIELD, "text"),
    ({"type": "send", "text": "é" * (LIMITS.text_max_bytes // 2 + 1)}, Code.INVALID_FIELD, "text"),
    ({"type": "send", "metadata": {"a": "x" * LIMITS.metadata_max_bytes}}, Code.INVALID_FIELD, "metadata"),
    ({"type": "send", "metadata": [1]}, Code.INVALID_FIELD, "metadata"),
    ({"type": "send", "metadata": {"a": 1 << 64}}, Code.INVALID_FIELD, "metadata"),
    ({"type": "send", "metadata": {"a": {"b": [[[[[[[[1]]]]]]]]}}}, Code.INVALID_FIELD, "metadata"),
    ({"type": "send", "reply_to": -1}, Code.INVALID_FIELD, "reply_to"),
    ({"type": "send", "reply_to": 1 << 53}, Code.INVALID_FIELD, "reply_to"),
    ({"type": "send", "reply_to": 1 << 70}, Code.INVALID_FIELD, "reply_to"),
    ({"type": "send", "reply_to": 1.5}, Code.INVALID_FIELD, "reply_to"),
    ({"type": "send", "reply_to": 12345}, Code.MESSAGE_NOT_FOUND, "reply_to"),
    ({"type": "read", "seq": -1}, Code.INVALID_FIELD, "seq"),
    ({"type": "read", "seq": "1"}, Code.INVALID_FIELD, "seq"),
    ({"type": "history", "limit": 0}, Code.INVALID_FIELD, "limit"),
    ({"type": "history", "limit": LIMITS.page_max_items + 1}, Code.INVALID_FIELD, "limit"),
    ({"type": "history", "at": LATEST_MS + 1}, Code.INVALID_FIELD, "at"),
    ({"type": "history", "at": (1 << 53) - 1}, Code.INVALID_FIELD, "at"),
    ({"type": "history", "before": 3, "after": 1}, Code.INVALID_FIELD, "after"),
    ({"type": "history", "around": 12345}, Code.MESSAGE_NOT_FOUND, None),
    ({"type": "sync", "cursors": {"c": -1}}, Code.INVALID_FIELD, None),
    ({"type": "sync", "cursors": [1]}, Code.INVALID_FIELD, "cursors"),
    ({"type": "sync", "cursors": {f"c{n}": 1 for n in range(LIMITS.cursors_max + 1)}}, Code.INVALID_FIELD, "cursors"),
    ({"type": "react", "message_id": 1, "emoji": "x" * 33}, Code.INVALID_FIELD, "emoji"),
    ({"type": "react", "message_id": 1, "emoji": "\n"}, Code.INVALID_FIELD, "emoji"),
    ({"type": "edit", "message_id": 1, "text": "x"}, Code.MESSAGE_NOT_FOUND, "message_id"),
    ({"type": "presence.watch", "user_ids": ["u"] * (LIMITS.watches_max + 1)}, Code.INVALID_FIELD, "user_ids"),
    ({"type": "presence.watch", "user_ids": [7]}, Code.INVALID_FIELD, None),
]  # fmt: skip


async def test_each_refusal_names_the_code_and_the_field(some: Crew) -> None:
    socket, channel = await logged_in(some)
    wrong = []
    for n, (frame, code, field) in enumerate(REFUSED):
        whole = {"id": f"q{n}", "channel_id": channel, "client_msg_id": f"k{n}"}
        if (frame["type"] in ("send", "edit") and "metadata" in frame | {}) or "reply_to" in frame:
            whole["text"] = "x"
        if frame["type"] in ("presence.watch", "sync", "hello"):
            whole = {"id": f"q{n}"}
        await socket.connection.send(json.dumps({**whole, **frame}))
        answer = await socket.answer(f"q{n}")
        if (answer["type"], answer.get("code")) != ("error", code) or field not in (
            None,
            str(answer.get("field")).split("[")[0],
        ):
            wrong.append((str(frame)[:80], code, field, {k: str(v)[:80] for k, v in answer.items()}))
        if answer["type"] == "error":
            assert answer["retryable"] == CATALOGUE[Code(answer["code"])].retryable
            assert len(answer["detail"]) < 400 and "Traceback" not in answer["detail"]
        assert (await socket.ask("ping"))["type"] == "pong"
    assert wrong == []


async def test_the_extremes_of_history_are_answered(some: Crew) -> None:
    socket, channel = await logged_in(some)
    most = (1 << 53) - 1
    for fields in ({"at": LATEST_MS}, {"at": 0}, {"before": most}, {"after": most}):
        answer = await socket.ask("history", channel_id=channel, **fields)
        assert answer["type"] == "ack", (fields, answer)


async def test_metadata_that_only_msgpack_can_say_is_refused(some: Crew) -> None:
    socket, channel = await logged_in(some, msgpack=True)
    for value in (
        b"raw",
        msgspec.msgpack.Ext(5, b"x"),
        float("nan"),
        float("inf"),
        {1: 2},
        {b"k": 1},
        (1 << 64) - 1,
    ):
        answer = await socket.ask(
            "send", channel_id=channel, client_msg_id="k", text="x", metadata={"a": value}
        )
        assert (answer["type"], answer.get("field")) == ("error", "metadata"), value


async def test_who_does_not_speak_the_protocol_is_closed(some: Crew) -> None:
    socket, _ = await logged_in(some)
    for n in range(10):
        await socket.connection.send(f'{{"type":"sing","id":"{n}"}}')
    assert await socket.closed() == Close.POLICY
    assert len(socket.of("error")) == 10


async def test_the_first_frame_has_to_be_hello(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    for first in ('{"type":"ping","id":"1"}', '{"type":"sing","id":"1"}', '{"type":"hello","id":"1"}'):
        socket = await some.raw(taken["url"])
        await socket.connection.send(first)
        assert await socket.closed() == Close.POLICY
        assert socket.frames[-1]["type"] == "error" and socket.frames[-1]["id"] == "1"


async def test_frames_in_the_same_breath_as_hello_are_answered_once_each(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    taken = await seat(ann)
    socket = await some.raw(taken["url"])
    await socket.say("hello", ticket=taken["ticket"], id="h")
    early = [await socket.say("send", channel_id=channel, client_msg_id=f"k{n}", text="x") for n in range(5)]
    for frame_id in ["h", *early]:
        await socket.answer(frame_id)
    await socket.ask("ping")
    answered = [f["id"] for f in socket.frames if f["type"] in ("ack", "error")]
    assert sorted(answered) == sorted(["h", *early])


async def test_an_id_may_be_open_only_once(some: Crew) -> None:
    socket, channel = await logged_in(some)
    for key in ("k1", "k2"):
        await socket.say("send", id="same", channel_id=channel, client_msg_id=key, text="x")
    await socket.until(lambda f: f["type"] == "error" and f["id"] == "same" and f["code"] == "conflict")
    await socket.until(lambda f: f["type"] == "ack" and f["id"] == "same")


async def test_too_many_open_requests_and_the_answer_says_when_to_come_back(some: Crew) -> None:
    socket, channel = await logged_in(some)
    many = LIMITS.open_requests_max + 50
    for n in range(many):
        await socket.say("read", id=f"o{n}", channel_id=channel, seq=1)
    answers = [await socket.answer(f"o{n}") for n in range(many)]
    busy = [a for a in answers if a["type"] == "error"]
    assert busy and {a["code"] for a in busy} == {"busy"}
    assert all(a["retryable"] and a["retry_after_ms"] > 0 for a in busy)
    assert len(answers) - len(busy) >= LIMITS.open_requests_max


async def test_a_frame_in_many_parts_is_one_frame_and_bounded(some: Crew) -> None:
    socket, _ = await logged_in(some)
    text = json.dumps({"type": "ping", "id": "parts"})
    await socket.connection.send([text[:5], text[5:9], text[9:]])
    await socket.answer("parts")
    await socket.connection.send(["x" * 100_000] * 3)
    assert await socket.closed() == Close.TOO_LARGE
    (error,) = socket.of("error")
    assert (error["code"], error["field"], error["limit"]) == ("too_large", "frame", LIMITS.frame_max_bytes)


async def test_noise_never_ends_a_pod(some: Crew) -> None:
    """Seeded: frames bent in one place, whole and as bare bytes."""
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    before = {name: pod["pid"] for name, pod in (await some.cluster.pods()).items()}
    rng = Random(3)
    good: list[dict[str, Any]] = [
        {"type": "send", "channel_id": channel, "client_msg_id": "k", "text": "x", "metadata": {"a": [1, 2]}},
        {"type": "history", "channel_id": channel, "around": 5, "limit": 10},
        {"type": "sync", "cursors": {channel: 0}},
        {"type": "presence.watch", "user_ids": [ann.id]},
        {"type": "react", "channel_id": channel, "client_msg_id": "k", "message_id": 1, "emoji": "x"},
    ]
    strange = [None, True, -1, 1 << 60, 1e308, "", "\u202e", "x" * 300, [], [[]], {}, {"": None}, "\ud83d"]
    for binary in (False, True):
        socket = await some.socket(ann, msgpack=binary)
        for n in range(250):
            if socket.closed_with is not None:
                assert socket.closed_with in set(Close)
                socket = await some.socket(ann, msgpack=binary)
            frame: dict[str, Any] = {"id": f"n{n}", **rng.choice(good)}
            frame[rng.choice(list(frame))] = rng.choice(strange)
            try:
                data = msgspec.msgpack.encode(frame) if binary else json.dumps(frame).encode()
            except UnicodeEncodeError:
                continue
            if rng.random() < 0.3:
                place = rng.randrange(len(data))
                data = data[:place] + bytes([rng.randrange(256)]) + data[place + rng.randrange(3) :]
            await socket.connection.send(data, text=not binary)
            if n % 10 == 0 and socket.closed_with is None:
                await socket.connection.ping()
    after = {name: pod["pid"] for name, pod in (await some.cluster.pods()).items()}
    assert after == before
    assert "Traceback" not in "".join(
        file.read_text() for file in (some.cluster.data / "logs").glob("chat-*.log")
    )
