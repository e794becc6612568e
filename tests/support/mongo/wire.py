"""MongoDB's messages as bytes: OP_MSG, the old OP_QUERY that a first hello may come in, and zlib's OP_COMPRESSED."""

from __future__ import annotations

import asyncio
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import bson

Document = dict[str, Any]
"""What MongoDB calls a document: the one place where a dict is passed round, for that is what the wire has."""

OP_REPLY = 1
OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013

HEADER = struct.Struct("<iiii")
HEADER_BYTES = HEADER.size
MESSAGE_MAX_BYTES = 48_000_000

CHECKSUM_PRESENT = 1 << 0
MORE_TO_COME = 1 << 1

ZLIB = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One command as it came."""

    request_id: int
    body: Document
    unanswered: bool = False
    """The client wants no answer: an unacknowledged write."""
    legacy: bool = False
    """It came as an OP_QUERY, and is to be answered by an OP_REPLY."""
    compressed: bool = False


class BrokenMessage(Exception):
    """Bytes that are no message of this protocol."""


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next command, or none when the client has closed."""
    try:
        header = await reader.readexactly(HEADER_BYTES)
        length, request_id, _, opcode = HEADER.unpack(header)
        if not HEADER_BYTES <= length <= MESSAGE_MAX_BYTES:
            raise BrokenMessage(f"a message of {length} bytes")
        payload = await reader.readexactly(length - HEADER_BYTES)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return decode(request_id, opcode, payload)


def decode(request_id: int, opcode: int, payload: bytes) -> Request:
    """The command in a message's payload."""
    compressed = opcode == OP_COMPRESSED
    if compressed:
        opcode, _, compressor = struct.unpack_from("<iiB", payload)
        payload = zlib.decompress(payload[9:]) if compressor == ZLIB else payload[9:]
    if opcode == OP_QUERY:
        return Request(request_id, _query(payload), legacy=True)
    if opcode != OP_MSG:
        raise BrokenMessage(f"opcode {opcode}")
    (flags,) = struct.unpack_from("<I", payload)
    end = len(payload) - (4 if flags & CHECKSUM_PRESENT else 0)
    body = _sections(payload[4:end])
    return Request(request_id, body, unanswered=bool(flags & MORE_TO_COME), compressed=compressed)


def _query(payload: bytes) -> Document:
    """The command of an OP_QUERY to `admin.$cmd`."""
    name_end = payload.index(b"\0", 4)
    body: Document = bson.decode(payload[name_end + 9 :])
    body.setdefault("$db", payload[4:name_end].decode().partition(".")[0])
    return body


def _sections(data: bytes) -> Document:
    """The body, with each document sequence as the array that it stands for."""
    body: Document = {}
    sequences: dict[str, list[Document]] = {}
    at = 0
    while at < len(data):
        kind = data[at]
        (size,) = struct.unpack_from("<i", data, at + 1)
        section = data[at + 1 : at + 1 + size]
        if kind == 0:
            body = bson.decode(section)
        elif kind == 1:
            name_end = section.index(b"\0", 4)
            sequences[section[4:name_end].decode()] = bson.decode_all(section[name_end + 1 :])
        else:
            raise BrokenMessage(f"section of kind {kind}")
        at += 1 + size
    return body | sequences


def encode_answer(request: Request, answer: Document, response_id: int) -> bytes:
    """The answer in the kind of message that the request came in."""
    document = bson.encode(answer)
    if request.legacy:
        return _framed(request, response_id, OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + document)
    payload = struct.pack("<IB", 0, 0) + document
    if not request.compressed:
        return _framed(request, response_id, OP_MSG, payload)
    packed = struct.pack("<iiB", OP_MSG, len(payload), ZLIB) + zlib.compress(payload)
    return _framed(request, response_id, OP_COMPRESSED, packed)


def _framed(request: Request, response_id: int, opcode: int, payload: bytes) -> bytes:
    return HEADER.pack(HEADER_BYTES + len(payload), response_id, request.request_id, opcode) + payload
