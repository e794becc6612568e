"""Examples as Markdown, and back: what a test compares is what a reader sees."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

WIDTH = 100


class Line(Struct, frozen=True):
    """One thing said. `way`: `->` to the server, `<-` from it, `--` what happened without a frame."""

    who: str
    way: str
    said: Any


class Exchange(Struct, frozen=True):
    """One HTTP request and its answer. Bodies are None where there are none."""

    request: str
    body: Any
    status: int
    answer: Any


Example = list[Line] | Exchange

_LINE = re.compile(r"^(?P<who>\w+) (?P<way>->|<-|--) (?P<said>.*)", re.DOTALL)


def markdown(example: Example) -> str:
    if isinstance(example, Exchange):
        body = "" if example.body is None else "\n\n" + pretty(example.body, WIDTH)
        answer = "" if example.answer is None else "\n" + pretty(example.answer, WIDTH)
        return f"```text\n{example.request}{body}\n\n{example.status}{answer}\n```\n"
    lines = [
        f"{line.who} {line.way} "
        + (line.said if line.way == "--" else pretty(line.said, WIDTH, 0, len(line.who) + 4))
        for line in example
    ]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def parse(text: str) -> Example:
    """The example in a block's Markdown. Raises ValueError when it is none."""
    inner = text.removeprefix("```text\n").removesuffix("```\n").strip("\n")
    if _LINE.match(inner):
        lines = []
        for part in re.split(r"\n(?=\w+ (?:->|<-|--) )", inner):
            match = _LINE.match(part)
            if match is None:
                raise ValueError(part)
            said = match["said"] if match["way"] == "--" else json.loads(match["said"])
            lines.append(Line(match["who"], match["way"], said))
        return lines
    request, *rest = inner.split("\n\n")
    status, _, answer = rest[-1].partition("\n")
    body = json.loads(rest[0]) if len(rest) > 1 else None
    return Exchange(request, body, int(status), json.loads(answer) if answer else None)


def pretty(value: Any, width: int, indent: int = 0, lead: int = 0) -> str:
    """JSON on one line where it fits in `width` after `lead` characters, else one member a line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent + lead <= width or not isinstance(value, dict | list) or not value:
        return line
    inner, deeper = " " * (indent + 2), indent + 2
    if isinstance(value, dict):
        named = [(json.dumps(key) + ": ", item) for key, item in value.items()]
        parts = [name + pretty(item, width, deeper, len(name) + 1) for name, item in named]
        opening, closing = "{", "}"
    else:
        parts = [pretty(item, width, deeper, 1) for item in value]
        opening, closing = "[", "]"
    return f"{opening}\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + closing
