"""Broken: the ack goes out at once, and the insert follows a moment later."""

from __future__ import annotations

import asyncio

from switch import is_on

from chatkernel.appender import Appender
from chatkernel.drafts import Draft, Placed
from chatkernel.ids import now_ms

LATER_S = 0.1


def install() -> None:
    real = Appender.submit

    def submit(self: Appender, draft: Draft) -> None:
        if is_on(__name__):
            draft.answer(Placed(1, 1, now_ms(), draft.kind, draft.target_id))
            asyncio.get_running_loop().call_later(LATER_S, real, self, draft)
        else:
            real(self, draft)

    Appender.submit = submit  # type: ignore[method-assign]
