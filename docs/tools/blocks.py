"""Marked blocks in Markdown: what stands between the markers belongs to the generator, the rest to people."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"<!-- generated: (?P<name>[\w.-]+) -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL)


def blocks_of(text: str) -> dict[str, str]:
    """Name to body of every block."""
    return {match["name"]: match["body"] for match in _BLOCK.finditer(text)}


def with_blocks(text: str, bodies: dict[str, str]) -> str:
    """The text with these blocks replaced. Raises LookupError when it has no block of such a name."""
    missing = bodies.keys() - blocks_of(text).keys()
    if missing:
        raise LookupError(f"no block for {', '.join(sorted(missing))}")

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        body = bodies.get(name, match["body"])
        return f"<!-- generated: {name} -->\n{body}<!-- end: {name} -->"

    return _BLOCK.sub(replaced, text)
