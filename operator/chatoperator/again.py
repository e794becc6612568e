"""What is done again and again must not end the cluster when it fails: it is told once, and tried again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

log = logging.getLogger(__name__)


class Again:
    """`with again("x"):` round what will be done again anyway. The same failure is told when it begins, not at each
    turn; after a success it is news again. Errors that are `expected` are told in a line, others with where they came
    from."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    @contextlib.contextmanager
    def __call__(self, what: str, expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            if self._told.get(what) == problem:
                pass
            elif isinstance(error, expected):
                log.warning("not done", extra={"what": what, "error": str(error)})
            else:
                log.exception("%s failed and will be tried again", what, extra={"error": problem})
            self._told[what] = problem
        else:
            self._told.pop(what, None)
