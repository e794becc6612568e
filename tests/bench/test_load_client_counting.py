"""The load client's counters must be right however TCP cuts the stream: every figure rests on them."""

from __future__ import annotations

import json
import random

import pytest

from bench import wire
from bench.httpclient import parse_response
from bench.plans import Window


def _event(number: int, text: str) -> bytes:
    event = {"type": "event", "channel_id": "local_g1", "seq": number, "kind": "message", "text": text}
    return wire.server_frame(json.dumps(event, separators=(",", ":")).encode())


def _feed(pieces: list[bytes]) -> tuple[int, int, list[int]]:
    """Events, acks and stamps that a connection counts when these pieces arrive one by one."""
    counter, buffer = wire.FrameCounter(), bytearray(1 << 20)
    events = acks = 0
    stamps: list[int] = []
    for piece in pieces:
        arrived = counter.tail + piece
        buffer[: len(arrived)] = arrived
        end = counter.cut(buffer, len(arrived))
        events += buffer.count(wire.EVENT, 0, end)
        acks += buffer.count(wire.ACK, 0, end)
        stamps += [int(stamp) for stamp in wire.STAMP.findall(buffer, 0, end)]
    return events, acks, stamps


@pytest.mark.parametrize("seed", range(20))
def test_counts_do_not_depend_on_where_the_stream_is_cut(seed: int) -> None:
    source = random.Random(seed)
    frames = [_event(n, f"@{n:016d} " + "x" * source.choice([0, 3, 120, 182, 700])) for n in range(40)]
    frames += [wire.server_frame(b'{"type":"ack","id":"1","seq":7}')] * 7
    source.shuffle(frames)
    stream = b"".join(frames)
    cuts = sorted(source.sample(range(1, len(stream)), 60))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    events, acks, stamps = _feed(pieces)
    assert (events, acks) == (40, 7)
    assert sorted(stamps) == list(range(40))


def test_every_byte_on_its_own() -> None:
    stream = _event(1, "@0000000000000001 x") + wire.server_frame(b'{"type":"ack","id":"1"}')
    assert _feed([stream[n : n + 1] for n in range(len(stream))]) == (1, 1, [1])


def test_a_marker_inside_a_text_is_not_counted() -> None:
    assert _feed([_event(1, '{"type":"event"}"type":"ack"')]) == (1, 0, [])


def test_send_frames_are_valid_and_of_one_length() -> None:
    template = wire.SendTemplate("local_gabc", "run")
    one, two = template.frame(1), template.frame(1_000_000_000)
    assert len(one) == len(two)
    assert one[0] == 0x81
    assert one[1] == 0x80 | 126
    assert int.from_bytes(one[2:4]) == len(one) - 8
    assert one[4:8] == b"\0\0\0\0"
    sent = json.loads(one[8:])
    assert (sent["type"], sent["channel_id"], len(sent["text"])) == ("send", "local_gabc", wire.MESSAGE_BYTES)
    assert sent["client_msg_id"] != json.loads(two[8:])["client_msg_id"]


@pytest.mark.parametrize("extra", range(64))
def test_a_length_that_looks_like_a_format_character_does_no_harm(extra: int) -> None:
    template = wire.SendTemplate("c" * (1 + extra), "run")
    frame = template.frame(3)
    assert int.from_bytes(frame[2:4]) == len(frame) - 8
    json.loads(frame[8:])


def test_a_ping_is_answered_with_its_payload_masked() -> None:
    assert wire.pong_for(b"\x89\x04abcdrest") == b"\x8a\x84\0\0\0\0abcd"
    assert wire.pong_for(b"\x89\x04ab") is None
    assert wire.pong_for(b"\x81\x04abcd") is None


def test_http_answers_are_complete_only_with_their_body() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    assert parse_response(head + b"abc") is None
    assert parse_response(head + b"abcd") == (200, b"abcd")


def test_percentiles_of_nothing_are_not_a_number() -> None:
    empty = Window(wall_s=1, events=0, acks=0, pages=0, cpu_s={}, client_cpu_s=0)
    assert empty.percentile_ms(0.5) != empty.percentile_ms(0.5)
    full = Window(1, 0, 0, 0, {}, 0, latencies_us=list(range(0, 100_000, 1000)))
    assert full.percentile_ms(0.5) == 50
    assert full.percentile_ms(0.99) == 99
