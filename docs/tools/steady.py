"""Makes what a real run says fit for a document: the same people, ids and clock in every run, and nothing secret.

Times keep their distances: the whole run is moved to START_MS, and message ids, which hold times, with it.
"""

from __future__ import annotations

import json
from typing import Any

from chatkernel.message_ids import COUNTER_BITS

START_MS = 1_798_794_000_000
"""2027-01-01 09:00:00 UTC."""

_MESSAGE_IDS = frozenset({"message_id", "target_id", "reply_to", "around"})
_TIMES = frozenset({"server_time", "deadline"})


class Steady:
    """Learns real values and what they are called in the document. `began_ms`: when the run began."""

    def __init__(self, began_ms: int) -> None:
        self._shift_ms = START_MS - began_ms
        self._names: dict[str, str] = {}

    def call(self, real: str, shown: str) -> None:
        self._names[real] = shown

    def of(self, value: Any) -> Any:
        return json.loads(self.text(json.dumps(self._moved(value), ensure_ascii=False)))

    def text(self, text: str) -> str:
        for real, shown in self._names.items():
            text = text.replace(real, shown)
        return text

    def _moved(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._moved(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._moved(item, key) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and value:
            if key in _MESSAGE_IDS:
                return value + (self._shift_ms << COUNTER_BITS)
            if key in _TIMES or key.endswith("_at"):
                return value + self._shift_ms
        return value


def shape(value: Any) -> Any:
    """What stays the same from run to run: fields and types; of an array, the shapes in it; of an object keyed by
    ids, the shapes of its values."""
    if isinstance(value, dict):
        if value and all(_is_id(key) for key in value):
            return ("by id", _distinct(value.values()))
        return {
            key: item if key in ("type", "kind", "code", "field") else shape(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return ("array", _distinct(value))
    return type(value).__name__


def _is_id(key: str) -> bool:
    return key.startswith("local_")


def _distinct(items: Any) -> list[str]:
    return sorted({json.dumps(shape(item), sort_keys=True) for item in items})
