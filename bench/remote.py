"""A process of its own for what must not share a core (or a lock) with the rest: commands over a pipe."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from bench import machine
from bench.errors import BenchError

CALL_TIMEOUT_S = 180.0


def answer(pipe: Connection, target: object) -> bool:
    """Carry out one command that waits in the pipe; False when the other side is gone."""
    try:
        name, args, kwargs = pipe.recv()
    except (EOFError, OSError):
        return False
    try:
        pipe.send((True, getattr(target, name)(*args, **kwargs)))
    except BenchError as error:
        pipe.send((False, str(error)))
    except Exception:
        pipe.send((False, traceback.format_exc()))
    return True


class Remote:
    """The handle. `main(pipe)` runs in the new process until the pipe closes."""

    def __init__(self, main: Callable[[Connection], None], core: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0
        self.call("hello")
        machine.pin(self.pid, core)

    def call(self, name: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S, **kwargs: Any) -> Any:
        """Raises BenchError with what the other process says."""
        self.begin(name, *args, **kwargs)
        return self.result(timeout_s)

    def begin(self, name: str, *args: Any, **kwargs: Any) -> None:
        """`call` without waiting; `result` must follow."""
        self._pipe.send((name, args, kwargs))

    def result(self, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        if not self._pipe.poll(timeout_s):
            raise BenchError(f"no answer from a bench process within {timeout_s:.0f} s")
        try:
            good, value = self._pipe.recv()
        except EOFError as error:
            raise BenchError("a bench process died") from error
        if not good:
            raise BenchError(value)
        return value

    def close(self) -> None:
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
