"""What a decoder refuses is told in its words and limits; what a stranger wrote is only repeated, and briefly."""

from __future__ import annotations

import msgspec
import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Error, decode_client_json, encode_json, encode_msgpack
from chatkernel.validation import field_of


def refused(frame: str) -> ChatError:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode_client_json(frame)
    return field_of(caught.value)


@pytest.mark.parametrize(
    "written", ["<= ²", "<= " + "9" * 30, ">= " + "9" * 5000, "x' - at `$.text", "<= 7 - at `", "x" * 200_000]
)
def test_what_was_written_is_repeated_briefly_and_gives_no_limit(written: str) -> None:
    error = refused(f'{{"type":"{written}","id":"1"}}')
    assert (error.code, error.field, error.limit) == (Code.UNKNOWN_TYPE, "type", None)
    assert len(error.detail) < 250
    frame = Error("1", error.code, error.detail, error.retryable, error.field, error.limit)
    assert encode_json(frame) and encode_msgpack(frame)


@pytest.mark.parametrize(
    ("frame", "field", "limit"),
    [
        ('{"type":"read","id":"1","channel_id":"c","seq":-1}', "seq", 0),
        ('{"type":"read","id":"1","channel_id":"c","seq":9007199254740992}', "seq", 9007199254740991),
        (f'{{"type":"read","id":"1","channel_id":"{"c" * 81}","seq":1}}', "channel_id", 80),
        ('{"type":"history","id":"1","channel_id":"c","limit":1001}', "limit", 1000),
        ('{"type":"read","id":"1","seq":1}', "channel_id", None),
        (f'{{"type":"sync","id":"1","cursors":{{"{"c" * 81}":1}}}}', "cursors", 80),
    ],
)
def test_limits_are_told_in_numbers(frame: str, field: str, limit: int | None) -> None:
    error = refused(frame)
    assert (error.code, error.field, error.limit) == (Code.INVALID_FIELD, field, limit)
