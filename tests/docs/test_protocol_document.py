"""docs/protocol.md says what the types say, and its examples are what a real cluster answers."""

import msgspec
from msgspec.structs import fields

from chatkernel import protocol
from chatkernel.errors import Close
from chatkernel.protocol import EventKind, decode_client_json, decode_server_json
from docs.tools.blocks import blocks_of, with_blocks
from docs.tools.generate import PROTOCOL, outline, real_examples, shown_examples, stale
from docs.tools.notes import CLOSES, FIELDS
from docs.tools.render import Exchange, Line, markdown, parse
from docs.tools.tables import EVENT_FIELDS, field_docs, structs, tables


def test_the_tables_are_as_the_types_say():
    assert stale() == [], "run `make docs`"


def test_a_table_that_differs_is_noticed():
    text = PROTOCOL.read_text()
    assert with_blocks(text, {"errors": "old\n"}) != text


def test_every_table_is_in_the_document():
    assert tables().keys() == {
        name for name in blocks_of(PROTOCOL.read_text()) if not name.startswith("example.")
    }


def test_every_field_event_kind_and_close_code_has_words():
    docs = field_docs()
    there = {f"{struct.__name__}.{field.name}" for struct in structs() for field in fields(struct)}
    told = {f"{struct}.{field}" for struct, words in docs.items() for field in words}
    silent = there - told - FIELDS.keys()
    assert not silent and not FIELDS.keys() - there
    assert CLOSES.keys() == set(Close) and EVENT_FIELDS.keys() == set(EventKind)


def test_every_line_of_every_example_is_a_frame():
    examples = shown_examples()
    assert len(examples) > 15
    for name, example in examples.items():
        if isinstance(example, Exchange):
            continue
        for line in example:
            data = msgspec.json.encode(line.said)
            if line.way == "->" and line.said["type"] != "dance":
                decode_client_json(data)
            elif line.way == "<-":
                assert type(decode_server_json(data)).__module__ == protocol.__name__, name


def test_an_example_can_be_read_back():
    lines = [Line("carol", "->", {"type": "ping", "id": "1"}), Line("carol", "--", "closed 1008 (x)")]
    assert parse(markdown(lines)) == lines
    exchange = Exchange("POST /v1/seats\nAuthorization: Bearer <access token>", {"a": [1]}, 200, {"b": None})
    assert parse(markdown(exchange)) == exchange
    without = Exchange("DELETE /v1/sessions", None, 204, None)
    assert parse(markdown(without)) == without


def test_an_outline_knows_what_matters():
    def ack(**more):
        return [Line("carol", "<-", {"type": "ack", "id": "1", **more})]

    assert outline(ack(seq=1)) == outline(ack(seq=2))
    assert outline(ack(seq=1)) != outline(ack(seq="1"))
    assert outline(ack(seq=1)) != outline(ack())


async def test_the_examples_are_what_a_real_cluster_answers():
    real = await real_examples()
    shown = shown_examples()
    assert shown.keys() == real.keys()
    for name, example in shown.items():
        assert outline(example) == outline(real[name]), name
