"""Turns deliberate faults on in the breakable cluster: their names in a file that its services look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BROKEN = Path(__file__).with_name("broken")
BUILDS = {"chat": BROKEN / "chat_pod.py", "api": BROKEN / "api_pod.py"}


class Breaks:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.write_text("")

    @contextmanager
    def on(self, *names: str, only: Sequence[str] = ()) -> Iterator[None]:
        """`only`: the pods that are meant, for a fault that asks."""
        for name in names:
            assert (BROKEN / f"{name}.py").exists(), f"there is no such break: {name}"
        self.file.write_text(" ".join([*names, *only]))
        try:
            yield
        finally:
            self.file.write_text("")
