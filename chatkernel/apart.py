"""Channels that the store may be unable to serve: tried apart, so that the others do not wait for them.

A store need not fail as a whole: one shard of many without a primary lets everything wait that needs it. Which
channels those are only the store knows. So when an attempt fails or takes long, all channels are in doubt until they
have been served once: each is tried by itself, a few at once and briefly, and by reading first, for a read that takes
long can be given up. What succeeds is served together with others again. What has failed alone stands in a line of
its own, which grows more patient with each failure; when one of it succeeds, more and more are tried together, for
what they need is back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count

from chatkernel.attempt import Attempt
from chatkernel.drafts import Draft
from chatkernel.errors import ChatError

CALM_S = 5.0
"""So long after the last failure no channel is in doubt any more."""
FRESH_AT_ONCE, FAILED_AT_ONCE = 16, 8
"""Attempts under way for channels that have not failed alone, and for those that have. Each takes a connection."""
READ_S = 0.25
"""How long a first try may read before it is given up; where channels failed alone, twice that with each failure."""
READ_DOUBLINGS = 4
RETRY_FIRST_S, RETRY_MOST_S = 0.002, 0.25
"""How long the next try of one that failed waits at most; doubled with each failure in a row."""
GROUP_MOST = 512
EVENTS_EACH = 8
"""Events of an attempt per channel that it may have. A store that has more to do than it manages in its time would
fail all that wait in a channel over and over."""
KNOWN_MOST = 20_000
"""Channels in doubt that are remembered though nothing waits in them."""


class Suspect:
    """A channel in doubt, and what waits in it."""

    __slots__ = ("alone", "channel_id", "drafts", "failed", "queued", "under")

    def __init__(self, channel_id: str) -> None:
        self.channel_id = channel_id
        self.drafts: list[Draft] = []
        self.under: Attempt | None = None
        """What is under way for it: until that ends, it is at most looked for."""
        self.queued = False
        self.alone = False
        """It is tried by itself: what it was in has failed."""
        self.failed = False
        """By itself."""


class Line:
    """Suspects by the time from which on they may be tried."""

    def __init__(self, at_once: int) -> None:
        self.at_once, self.under_way = at_once, 0
        self.most = 1
        """Channels of the next group."""
        self.failures = 0
        self.not_before_s = 0.0
        self._heap: list[tuple[float, int, Suspect]] = []
        self._numbers = count()

    def push(self, suspect: Suspect, due_s: float) -> None:
        suspect.queued = True
        heappush(self._heap, (due_s, next(self._numbers), suspect))

    def pop(self, now_s: float) -> Suspect | None:
        """Where the last one succeeded, the others need not wait."""
        if not self._heap or (self._heap[0][0] > now_s and self.most == 1):
            return None
        suspect = heappop(self._heap)[2]
        suspect.queued = False
        return suspect

    def due_s(self) -> float | None:
        """When the next may be tried; None while there is none, or no room."""
        if not self._heap or self.under_way >= self.at_once:
            return None
        return 0.0 if self.most > 1 else max(self._heap[0][0], self.not_before_s)

    def may_begin(self, now_s: float) -> bool:
        return self.under_way < self.at_once and (self.most > 1 or now_s >= self.not_before_s)

    def ended(self, well: bool) -> None:
        self.most = min(GROUP_MOST, self.most * 2) if well else 1
        self.failures = max(0, self.failures - 1) if well else self.failures + 1


class Trial:
    """An attempt for some suspects, or a look for what `looks_for` is about."""

    __slots__ = ("attempt", "line", "looks_for", "read_s", "suspects")

    def __init__(self, line: Line, suspects: list[Suspect], read_s: float, attempt: Attempt) -> None:
        self.line, self.suspects, self.read_s, self.attempt = line, suspects, read_s, attempt
        self.looks_for: str | None = None


class Apart:
    """Owns the suspects. `active` from the first failure until all is calm."""

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self.active = False
        self.count = self.waiting_bytes = 0
        """Of what waits in suspects; what is under way is not in it."""
        self.failure: ChatError | None = None
        """The last one."""
        self._until_s = 0.0
        self._suspects: dict[str, Suspect] = {}
        self._well: set[str] = set()
        """Channels that were served since it began."""
        self._fresh, self._failed = Line(FRESH_AT_ONCE), Line(FAILED_AT_ONCE)
        self._looked_for = 0

    @property
    def some_are_well(self) -> bool:
        return bool(self._well)

    @property
    def busy(self) -> bool:
        """Whether there is something to be done, now or later."""
        return bool(self.count or self._looked_for or self._fresh.under_way or self._failed.under_way)

    def drafts(self) -> Iterable[Draft]:
        return (draft for suspect in self._suspects.values() for draft in suspect.drafts)

    def has(self, channel_id: str) -> bool:
        """Whether what is for this channel goes here."""
        if time.monotonic() > self._until_s and not self.busy:
            self.active, self.failure = False, None
            self._suspects.clear()
            return False
        return channel_id in self._suspects or channel_id not in self._well

    def was_tried(self, channel_id: str) -> bool:
        """Whether it is not known only because nothing has been sent there."""
        suspect = self._suspects.get(channel_id)
        return suspect is not None and (suspect.alone or suspect.under is not None)

    def put(self, draft: Draft) -> None:
        suspect = self._suspect(draft.channel_id)
        suspect.drafts.append(draft)
        self._counted((draft,), 1)
        self._queue(suspect)

    def begin(self, under_way: Iterable[Attempt], now_s: float) -> None:
        """From now on all channels are in doubt, and those of attempts under way are to wait for their end."""
        self._until_s = now_s + CALM_S
        if self.active:
            return
        self.active = True
        self._well.clear()
        for attempt in under_way:
            for channel_id in attempt.channels:
                self._suspect(channel_id).under = attempt

    def keep(self, attempt: Attempt) -> None:
        """It is let go: look for what it may have stored."""
        for channel_id in attempt.channels:
            suspect = self._suspect(channel_id)
            self._well.discard(channel_id)
            suspect.under = attempt
            self._looked_for += 1
            self._push(suspect, 0.0)

    def back(self, attempt: Attempt, left: Sequence[Draft], error: ChatError) -> None:
        """The store failed it."""
        self.failure = error
        for channel_id in attempt.channels:
            suspect = self._suspect(channel_id)
            self._ended(suspect, attempt)
            self._well.discard(channel_id)
            suspect.failed = suspect.failed or attempt.alone
            suspect.alone = True
        mine: dict[str, list[Draft]] = {}
        for draft in left:
            mine.setdefault(draft.channel_id, []).append(draft)
        for channel_id, drafts in mine.items():
            suspect = self._suspects[channel_id]
            suspect.drafts[:0] = drafts
            self._counted(drafts, 1)
        for channel_id in attempt.channels:
            self._queue(self._suspects[channel_id])

    def served(self, attempt: Attempt, left: Sequence[Draft]) -> list[Draft]:
        """The store has answered it: what is left, and what has waited behind it, is tried with the others again."""
        channels = attempt.channels
        ready = [*left]
        for channel_id in channels:
            ready += self._is_well(channel_id, attempt)
        return ready

    def found(self, attempt: Attempt, channel_id: str) -> list[Draft]:
        """All that it tried to store of this channel is stored; what has waited behind it."""
        return self._is_well(channel_id, attempt)

    def take(self) -> Trial | None:
        now_s = time.monotonic()
        for line in (self._fresh, self._failed):
            if line.may_begin(now_s):
                trial = self._group(line, now_s)
                if trial is not None:
                    line.under_way += 1
                    return trial
        return None

    def ended(self, trial: Trial, well: bool) -> None:
        """Its place in the line is free."""
        line = trial.line
        line.under_way -= 1
        if trial.looks_for is None or not well:
            line.ended(well)
        if not well and line is self._failed:
            pause_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(line.failures, 10))
            line.not_before_s = time.monotonic() + self._random.uniform(0, pause_s)
        if trial.looks_for is not None:
            suspect = trial.suspects[0]
            suspect.failed = suspect.failed or not well
            if suspect.under is trial.attempt:
                self._push(suspect, READ_S)

    def due_s(self) -> float | None:
        """When the next may be taken; None: not before something has ended or come."""
        times = [due_s for line in (self._fresh, self._failed) if (due_s := line.due_s()) is not None]
        return min(times, default=None)

    def drop_answered(self) -> int:
        """Of what waits; its bytes."""
        before = self.waiting_bytes
        for suspect in list(self._suspects.values()):
            gone = [draft for draft in suspect.drafts if draft.answered]
            if gone:
                suspect.drafts = [draft for draft in suspect.drafts if not draft.answered]
                self._counted(gone, -1)
            if len(self._suspects) > KNOWN_MOST and not suspect.drafts and suspect.under is None:
                del self._suspects[suspect.channel_id]
        return before - self.waiting_bytes

    # --- inside -----------------------------------------------------------------------------------------

    def _suspect(self, channel_id: str) -> Suspect:
        suspect = self._suspects.get(channel_id)
        if suspect is None:
            suspect = self._suspects[channel_id] = Suspect(channel_id)
        return suspect

    def _counted(self, drafts: Sequence[Draft], sign: int) -> None:
        self.count += sign * len(drafts)
        self.waiting_bytes += sign * sum([draft.size_bytes for draft in drafts])

    def _queue(self, suspect: Suspect) -> None:
        if suspect.drafts and suspect.under is None and not suspect.queued:
            self._push(suspect, 0.0)

    def _push(self, suspect: Suspect, wait_s: float) -> None:
        line = self._failed if suspect.failed else self._fresh
        if not suspect.queued:
            line.push(suspect, time.monotonic() + wait_s)

    def _ended(self, suspect: Suspect, attempt: Attempt) -> None:
        if suspect.under is attempt:
            suspect.under = None
            self._looked_for -= attempt.let_go

    def _is_well(self, channel_id: str, attempt: Attempt) -> list[Draft]:
        self._well.add(channel_id)
        suspect = self._suspects.pop(channel_id, None)
        if suspect is None:
            return []
        self._ended(suspect, attempt)
        self._counted(suspect.drafts, -1)
        return suspect.drafts

    def _group(self, line: Line, now_s: float) -> Trial | None:
        group: list[Suspect] = []
        while len(group) < line.most:
            suspect = line.pop(now_s)
            if suspect is None:
                break
            if self._suspects.get(suspect.channel_id) is not suspect:
                continue
            looks = suspect.under is not None and suspect.under.let_go
            if group and (looks or (suspect.alone and line is self._fresh)):
                line.push(suspect, now_s)
                break
            if suspect.under is not None and looks:
                trial = Trial(line, [suspect], self._read_s(line), suspect.under)
                trial.looks_for = suspect.channel_id
                return trial
            if suspect.drafts and suspect.under is None:
                group.append(suspect)
                if suspect.alone and line is self._fresh:
                    break
        return self._attempt(line, group) if group else None

    def _attempt(self, line: Line, group: list[Suspect]) -> Trial:
        drafts: list[Draft] = []
        most = min(GROUP_MOST, EVENTS_EACH * line.most)
        for number, suspect in enumerate(group):
            room = most - len(drafts)
            if room <= 0:
                for other in group[number:]:
                    line.push(other, 0.0)
                group = group[:number]
                break
            taken, suspect.drafts = suspect.drafts[:room], suspect.drafts[room:]
            self._counted(taken, -1)
            drafts += taken
        attempt = Attempt(drafts, alone=len(group) == 1)
        for suspect in group:
            suspect.under = attempt
        return Trial(line, group, self._read_s(line), attempt)

    def _read_s(self, line: Line) -> float:
        return READ_S * 2.0 ** (min(line.failures, READ_DOUBLINGS) if line is self._failed else 0)
