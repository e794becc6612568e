"""What a person may send: texts, names, metadata. Each refusal names the field and the limit."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

import msgspec

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.protocol import Limits

_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode directional formatting characters (UAX #9): a name with them can look like another."""

_INT_BITS = 64
"""Of an integer in metadata, its sign counted: more is not the same in JSON, MessagePack and everyone's language."""

DETAIL_MAX_CHARS = 200
FIELD_MAX_CHARS = 80
_BOUND = re.compile(r"[<>]= ([0-9]{1,16})(?![0-9])")
"""A limit in msgspec's own words, such as "Expected `str` of length <= 64"."""

_encoder = msgspec.json.Encoder()


def check_text(text: str, limits: Limits, field: str = "text") -> None:
    """A message's text: not empty, UTF-8, no NUL (which some stores cannot hold). Raises ChatError."""
    if not text:
        raise invalid(field, "may not be empty")
    if len(text) * 4 > limits.text_max_bytes:
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise invalid(field, "is not valid Unicode") from error
        if size > limits.text_max_bytes:
            raise invalid(field, f"at most {limits.text_max_bytes} bytes of UTF-8", limits.text_max_bytes)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise invalid(field, "is not valid Unicode")
    if "\0" in text:
        raise invalid(field, "may not hold a NUL character")


def check_name(name: str, limits: Limits, field: str = "name") -> str:
    """A name for people to see: stripped; no control characters, no bidirectional overrides. Raises ChatError."""
    name = name.strip()
    if not name:
        raise invalid(field, "may not be empty")
    if len(name) > limits.name_max_chars:
        raise invalid(field, f"at most {limits.name_max_chars} characters", limits.name_max_chars)
    for char in name:
        if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in _BIDI_OVERRIDES:
            raise invalid(field, "may not hold control characters or directional overrides")
    return name


def check_emoji(emoji: str, field: str = "emoji") -> None:
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zs"} or char in _BIDI_OVERRIDES for char in emoji):
        raise invalid(field, "may not hold control characters or spaces")


def check_metadata(metadata: dict[str, Any], limits: Limits, field: str = "metadata") -> None:
    """A small free JSON object. Raises ChatError."""
    _check_value(metadata, limits.nesting_max_depth, field, limits.nesting_max_depth)
    try:
        size = len(_encoder.encode(metadata))
    except (UnicodeEncodeError, msgspec.MsgspecError, TypeError, OverflowError) as error:
        raise invalid(field, "is not a JSON object") from error
    if size > limits.metadata_max_bytes:
        raise invalid(field, f"at most {limits.metadata_max_bytes} bytes as JSON", limits.metadata_max_bytes)


def _check_value(value: object, depth: int, field: str, most: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise invalid(field, f"is nested more than {most} deep", most)
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                _check_string(key, field)
            _check_value(item, depth - 1, field, most)
    elif isinstance(value, str):
        _check_string(value, field)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise invalid(field, "holds a number that is not finite")
    elif isinstance(value, int):
        if value.bit_length() >= _INT_BITS:
            raise invalid(field, f"holds an integer of more than {_INT_BITS} bits", _INT_BITS)
    elif value is not None:
        raise invalid(field, "holds something that JSON has not")


def _check_string(value: object, field: str) -> None:
    if not isinstance(value, str):
        raise invalid(field, "holds a key that is not a string")
    if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise invalid(field, "holds a string that is not valid Unicode text")


def field_of(error: msgspec.ValidationError) -> ChatError:
    """The catalogue's error for a msgspec refusal, with the path of the field and the limit in words.

    Such a refusal may repeat what a stranger wrote, at any length: that is cut, and no number is taken from it.
    """
    # The path comes last; what was written may look like one.
    message, found, path = str(error).rpartition(" - at `")
    if not found:
        message, path = path, ""
    # Of a key it says "key` in `$.metadata`": the field is what holds the key.
    field = path.rstrip("`").rpartition("` in `")[2].removeprefix("$").removeprefix(".") or None
    if field is None and "field `" in message:
        field = message.split("`")[1]
    repeats = message.startswith("Invalid value ")
    bound = None if repeats else _BOUND.search(message)
    code = Code.UNKNOWN_TYPE if repeats and field == "type" else Code.INVALID_FIELD
    detail = f"{field}: {message}" if field else message
    if len(detail) > DETAIL_MAX_CHARS:
        detail = f"{detail[:DETAIL_MAX_CHARS]}..."
    return ChatError(
        code, detail, field=field and field[:FIELD_MAX_CHARS], limit=int(bound[1]) if bound else None
    )
