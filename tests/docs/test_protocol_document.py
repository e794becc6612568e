"""docs/protocol.md says what the types say, and its examples are what a real cluster answers."""

import asyncio

import jsonschema
import msgspec
import pytest
from msgspec.structs import fields

from chatkernel import protocol
from chatkernel.errors import Close
from chatkernel.protocol import EventKind, decode_client_json, decode_server_json
from docs.tools.blocks import blocks_of, with_blocks
from docs.tools.generate import PROTOCOL, outline, real_run, shown_examples, stale
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


@pytest.fixture(scope="module")
def real():
    return asyncio.run(real_run())


def test_the_examples_are_what_a_real_cluster_answers(real):
    shown = shown_examples()
    assert shown.keys() == real.examples.keys()
    for name, example in shown.items():
        assert outline(example) == outline(real.examples[name]), name


def validators(asyncapi):
    """(direction, frame type) to what checks such a frame: fields that the document does not name are wrong, too."""
    components = closed(asyncapi["components"])

    def resolved(reference):
        node = {**asyncapi, "components": components}
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        return node if set(node) != {"$ref"} else resolved(node["$ref"])

    found = {}
    for operation in asyncapi["operations"].values():
        way = {"receive": "->", "send": "<-"}[operation["action"]]
        for message in operation["messages"]:
            frame = resolved(message["$ref"])
            schema = {**frame["payload"], "components": components}
            found[way, frame["name"]] = jsonschema.Draft202012Validator(schema)
    return found


def closed(node):
    """A schema whose objects may have no fields but those named."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: closed(value) for key, value in node.items()}
    named = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    return {"additionalProperties": False, **inner} if named else inner


def test_every_frame_of_a_real_conversation_is_as_the_served_asyncapi_document_says(real):
    checks = validators(real.asyncapi)
    there = {(line.way, line.said["type"]) for line in real.transcript}
    assert there - checks.keys() == {("->", "dance")}, "frames that the document does not know"
    assert len(there) > 20 and len(real.transcript) > 60
    for line in real.transcript:
        if line.said["type"] != "dance":
            checks[line.way, line.said["type"]].validate(line.said)
    unspoken = checks.keys() - there
    assert unspoken == {("<-", "resync")}, "the conversation is to have a frame of every kind that can be had"


def test_a_frame_that_is_not_as_the_document_says_is_noticed(real):
    checks = validators(real.asyncapi)
    (event, *_) = [line.said for line in real.transcript if line.said["type"] == "event"]
    (page, *_) = [line.said for line in real.transcript if line.said.get("events")]
    seq = {name: value for name, value in event.items() if name != "seq"}
    nested = {**page, "events": [{**page["events"][0], "surplus": 1}]}
    for bad in (seq, {**event, "seq": "1"}, {**event, "surplus": 1}, nested):
        assert not checks["<-", bad["type"]].is_valid(bad), bad
