"""Whether a deliberate fault is on just now: looked up at each use, so that one cluster serves all tests."""

from __future__ import annotations

import os
from pathlib import Path

_file = Path(os.environ["CHAT_TEST_BREAKS"])


def is_on(name: str) -> bool:
    """`name`: a module's `__name__`, or what the test named beside it, such as a pod."""
    return name in _file.read_text().split()
