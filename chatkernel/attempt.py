"""One try to have some drafts stored, from the queue to the store and back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from chatkernel.drafts import Draft
from chatkernel.errors import ChatError

RETRY_FIRST_S, RETRY_MOST_S = 0.002, 0.25
"""How long is waited at most before the next try; doubled each time."""


def pause_s(tries: int, random_source: random.Random) -> float:
    """Before the next one: anything up to its most, so that those who lost to each other do not meet again."""
    return random_source.uniform(0, min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(tries, 10)))


class Attempt:
    """Of all that is under way no two have a channel in common."""

    __slots__ = (
        "again",
        "alone",
        "asked",
        "drafts",
        "error",
        "found",
        "given_up",
        "inserting_s",
        "let_go",
        "started_s",
        "task",
        "timer",
        "trial",
    )

    def __init__(self, drafts: list[Draft], *, alone: bool = False, trial: bool = False) -> None:
        self.drafts = drafts
        self.alone = alone
        """Of one channel, so that a failure is about this channel."""
        self.trial = trial
        """Of channels in doubt; else it is the common batch."""
        self.asked = False
        """The store was asked, and not only what this process remembers."""
        self.again: Sequence[Draft] = ()
        """What has to be tried again, in the order of `drafts`."""
        self.error: ChatError | None = None
        """The store failed it, and may not do so next time."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.started_s = time.monotonic()
        self.inserting_s = 0.0
        """Since when it can have stored something; until then it can be given up without a doubt."""
        self.given_up = False
        self.let_go = False
        """It takes long, and nobody waits for it any more but its own channels."""
        self.found: set[str] = set()
        """Channels of which all was found to be stored: they have gone on, and its answer does not concern them."""

    @property
    def channels(self) -> list[str]:
        return list(dict.fromkeys([draft.channel_id for draft in self.drafts]))

    def of(self, channel_id: str) -> list[Draft]:
        return [draft for draft in self.drafts if draft.channel_id == channel_id]
