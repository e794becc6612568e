"""What strangers send is refused by name, before anything recursive sees it."""

import msgspec
import pytest

from apipod.bodies import check_nesting, decode_json, decode_query
from apipod.resources.channels import ConversationQuery, NewChannel
from apipod.resources.frames import HttpFrame
from chatkernel.errors import ChatError, Code

FRAMES = msgspec.json.Decoder(HttpFrame)
CHANNELS = msgspec.json.Decoder(NewChannel)


@pytest.mark.parametrize("data", [b"[" * 9, b'{"a":' * 9, b'{"a":[{"b":[{"c":[{"d":[{}]}]}]}]}'])
def test_deep_documents_are_refused_with_the_limit(data):
    with pytest.raises(ChatError) as caught:
        check_nesting(data, 8)
    assert (caught.value.code, caught.value.limit) == (Code.INVALID_FIELD, 8)


@pytest.mark.parametrize(
    "data", [b"[]" * 50, b'"' + b"[" * 50 + b'"', rb'"\"[[[[[[[[[[[["', b'{"a":"{{{{{{{{{"}']
)
def test_brackets_that_do_not_nest_are_fine(data):
    check_nesting(data, 8)


@pytest.mark.parametrize(
    ("decoder", "data", "code", "field"),
    [
        (FRAMES, b"", Code.MALFORMED, "body"),
        (FRAMES, b"\xff\xfe", Code.MALFORMED, "body"),
        (FRAMES, b'{"type":"send","id":"\xff"}', Code.MALFORMED, "body"),
        (FRAMES, b"[" * 100_000, Code.INVALID_FIELD, "body"),
        (FRAMES, b'{"type":"nonsense"}', Code.UNKNOWN_TYPE, "type"),
        (FRAMES, b'{"type":"hello","id":"1","ticket":"t"}', Code.UNKNOWN_TYPE, "type"),
        (FRAMES, b'{"type":"read","id":"1","channel_id":"c","seq":-1}', Code.INVALID_FIELD, "seq"),
        (FRAMES, b'{"type":"read","id":"1","channel_id":"c","seq":1e99}', Code.INVALID_FIELD, "seq"),
        (FRAMES, b'{"type":"read","id":"1","channel_id":7,"seq":1}', Code.INVALID_FIELD, "channel_id"),
        (FRAMES, b'{"type":"read","id":"1","channel_id":"c"}', Code.INVALID_FIELD, "seq"),
        (CHANNELS, b'{"kind":"group","name":"n","members":["a",3]}', Code.INVALID_FIELD, "members[1]"),
    ],
)
def test_each_refusal_names_code_and_field(decoder, data, code, field):
    with pytest.raises(ChatError) as caught:
        decode_json(decoder, data, 9)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_queries_are_typed_and_their_limits_named():
    query = decode_query(ConversationQuery, b"limit=20&archived=true&cursor=")
    assert query == ConversationQuery(cursor="", limit=20, archived=True)
    for bad, field in ((b"limit=0", "limit"), (b"limit=x", "limit"), (b"archived=2", "archived")):
        with pytest.raises(ChatError) as caught:
            decode_query(ConversationQuery, bad)
        assert (caught.value.code, caught.value.field) == (Code.INVALID_FIELD, field)
    for bad, code, field in (
        (b"cursor=%ff", Code.MALFORMED, "query"),
        (b"cursor=%00", Code.INVALID_FIELD, "cursor"),
    ):
        with pytest.raises(ChatError) as caught:
            decode_query(ConversationQuery, bad)
        assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize("tail", [b"", b'"', b"\\", b'\\"'])
def test_strings_without_an_end_are_read_once(tail):
    check_nesting(b"[" * 8 + b'"' + b'\\"[' * 100_000 + tail, 8)
    with pytest.raises(ChatError):
        check_nesting(b"[" * 9 + b'"' + b'\\"[' * 100_000 + tail, 8)
