"""Channels that the store may be unable to serve: tried apart, so that the others do not wait for them.

A store need not fail as a whole: one shard of many without a primary lets everything wait that needs it. Which
channels those are only the store knows. So when an attempt fails or takes long, all channels are in doubt until they
have been served once: each is tried by itself, a few at once and briefly, and by reading first, for a read that takes
long can be given up. What succeeds is served together with others again. What has failed alone stands in a line of
its own, which grows more patient with each failure; when one of it succeeds, more and more are tried together, for
what they need is back.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count

from chatkernel.attempt import Attempt, pause_s
from chatkernel.drafts import Draft
from chatkernel.errors import ChatError

CALM_S = 5.0
"""So long after the last failure no channel is in doubt any more."""
FRESH_AT_ONCE, FAILED_AT_ONCE, LOOKS_AT_ONCE = 16, 8, 16
"""Attempts under way for channels that have not failed alone, and for those that have, and looks for what was stored.
Each takes a connection."""
READ_S = 0.25
"""How long a try may read before it is given up; of a channel that failed alone, twice that with each failure."""
READ_DOUBLINGS = 4
LOOK_AGAIN_S = 0.25, 1.0
"""After a look that found nothing, and after one that was not answered."""
GROUP_MOST = 512
EVENTS_EACH = 8
"""Events of an attempt per channel that it may have. A store that has more to do than it manages in its time would
fail all that wait in a channel over and over."""
KNOWN_MOST = 50_000
"""Channels that are remembered: those in doubt in which nothing waits, and those that were served. Far more than
those of which something can wait or be under way (`WAITING_MAX` in chatkernel/backlog.py, and those at the store)."""


class Suspect:
    """A channel in doubt, and what waits in it."""

    __slots__ = ("alone", "channel_id", "drafts", "failures", "looked_for", "queued", "under")

    def __init__(self, channel_id: str) -> None:
        self.channel_id = channel_id
        self.drafts: list[Draft] = []
        self.under: Attempt | None = None
        """What is under way for it: until that ends, it is at most looked for."""
        self.queued = self.looked_for = False
        """In one of the lines; among those to be looked for."""
        self.alone = False
        """It is tried by itself: what it was in has failed."""
        self.failures = 0
        """How often it failed by itself."""


class Line:
    """Suspects in the order in which they are tried: who failed less often is first, for one failure may have been a
    hiccup; of these, who came first. Where one succeeds, twice as many are next."""

    def __init__(self, at_once: int, random_source: random.Random) -> None:
        self._at_once, self._random = at_once, random_source
        self.under_way = 0
        self._suspects: list[tuple[int, int, Suspect]] = []
        self._numbers, self._front = count(1), count(-1, -1)
        self.reset()

    def reset(self) -> None:
        """All is well."""
        self.most = 1
        """Channels of the next group."""
        self._failures = 0
        self._not_before_s = 0.0

    def push(self, suspect: Suspect, *, in_front: bool = False) -> None:
        suspect.queued = True
        number = next(self._front if in_front else self._numbers)
        heappush(self._suspects, (suspect.failures, number, suspect))

    def pop(self) -> Suspect | None:
        if not self._suspects:
            return None
        suspect = heappop(self._suspects)[2]
        suspect.queued = False
        return suspect

    def due_s(self) -> float:
        """When the next may be tried; endless while there is none, or no room."""
        if not self._suspects or self.under_way >= self._at_once:
            return math.inf
        return self._not_before_s

    def ended(self, well: bool, *, pause: bool) -> None:
        self.under_way -= 1
        self.most = min(GROUP_MOST, self.most * 2) if well else 1
        self._failures = max(0, self._failures - 1) if well else self._failures + 1
        wait_s = pause_s(self._failures, self._random) if pause and not well else 0.0
        self._not_before_s = time.monotonic() + wait_s


class Looks:
    """Suspects by the time at which it is looked whether they were stored."""

    def __init__(self) -> None:
        self.under_way = 0
        self._heap: list[tuple[float, int, Suspect]] = []
        self._numbers = count()

    def push(self, suspect: Suspect, wait_s: float) -> None:
        if not suspect.looked_for:
            suspect.looked_for = True
            heappush(self._heap, (time.monotonic() + wait_s, next(self._numbers), suspect))

    def pop(self) -> Suspect:
        suspect = heappop(self._heap)[2]
        suspect.looked_for = False
        return suspect

    def due_s(self) -> float:
        return self._heap[0][0] if self._heap and self.under_way < LOOKS_AT_ONCE else math.inf


class Trial:
    """An attempt for some suspects; without a line, a look for what it may have stored of one of them."""

    __slots__ = ("attempt", "line", "read_s", "suspects")

    def __init__(self, attempt: Attempt, suspects: list[Suspect], read_s: float, line: Line | None) -> None:
        self.attempt, self.suspects, self.read_s, self.line = attempt, suspects, read_s, line


class Apart:
    """Owns the suspects. `active` from the first failure until all is calm."""

    def __init__(self, random_source: random.Random) -> None:
        self.active = False
        self.count = self.waiting_bytes = 0
        """Of what waits in suspects; what is under way is not in it."""
        self.failure: ChatError | None = None
        """The last one."""
        self._until_s = 0.0
        self._suspects: dict[str, Suspect] = {}
        self._well: set[str] = set()
        """Channels that were served since it began."""
        self._fresh, self._failed = Line(FRESH_AT_ONCE, random_source), Line(FAILED_AT_ONCE, random_source)
        self._looks = Looks()
        self._kept = 0
        """Channels of attempts that were let go."""

    @property
    def some_are_well(self) -> bool:
        return bool(self._well)

    @property
    def busy(self) -> bool:
        """Whether there is something to be done, now or later."""
        under_way = self._looks.under_way + self._fresh.under_way + self._failed.under_way
        return bool(self.count or self._kept or under_way)

    def drafts(self) -> Iterable[Draft]:
        return (draft for suspect in self._suspects.values() for draft in suspect.drafts)

    def has(self, channel_id: str) -> bool:
        """Whether what is for this channel goes here."""
        if time.monotonic() > self._until_s and not self.busy:
            self.active, self.failure = False, None
            self._suspects.clear()
            self._well.clear()
            self._fresh.reset()
            self._failed.reset()
            return False
        return channel_id in self._suspects or channel_id not in self._well

    @property
    def knows_too_many(self) -> bool:
        return len(self._well) > KNOWN_MOST

    def forget_served(self, but: set[str]) -> None:
        """Each is tried once more; but those of which something is with the others, for it must not be overtaken."""
        self._well &= but

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
            self._kept += 1
            self._looks.push(suspect, 0.0)

    def back(self, attempt: Attempt, left: Sequence[Draft], error: ChatError) -> None:
        """The store failed it."""
        self.failure = error
        for channel_id in attempt.channels:
            suspect = self._suspect(channel_id)
            self._ended(suspect, attempt)
            self._well.discard(channel_id)
            suspect.failures += attempt.alone
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
        ready = [*left]
        for channel_id in attempt.channels:
            if attempt.asked:
                ready += self.found(attempt, channel_id)
            else:
                self._goes_on(attempt, channel_id)
        return ready

    def found(self, attempt: Attempt, channel_id: str) -> list[Draft]:
        """The store has served this channel of it; what has waited behind it."""
        self._well.add(channel_id)
        suspect = self._suspects.pop(channel_id, None)
        if suspect is None:
            return []
        self._ended(suspect, attempt)
        self._counted(suspect.drafts, -1)
        return suspect.drafts

    def take(self) -> Trial | None:
        """What may begin now."""
        now_s = time.monotonic()
        while self._looks.due_s() <= now_s:
            suspect = self._looks.pop()
            if suspect.under is not None and suspect.under.let_go:
                self._looks.under_way += 1
                return Trial(suspect.under, [suspect], READ_S, None)
        for line in (self._fresh, self._failed):
            if line.due_s() <= now_s:
                trial = self._group(line)
                if trial is not None:
                    line.under_way += 1
                    return trial
        return None

    def ended(self, trial: Trial, well: bool) -> None:
        """Its place is free."""
        if trial.line is not None:
            trial.line.ended(well, pause=trial.line is self._failed)
            return
        self._looks.under_way -= 1
        for suspect in trial.suspects:
            if suspect.under is trial.attempt:
                self._looks.push(suspect, LOOK_AGAIN_S[not well])

    def due_s(self) -> float:
        """When the next may be taken; endless: not before something has ended or come."""
        return min(self._looks.due_s(), self._fresh.due_s(), self._failed.due_s())

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
            (self._failed if suspect.failures else self._fresh).push(suspect)

    def _ended(self, suspect: Suspect, attempt: Attempt) -> None:
        if suspect.under is attempt:
            suspect.under = None
            self._kept -= attempt.let_go

    def _goes_on(self, attempt: Attempt, channel_id: str) -> None:
        """All was known here, which says nothing of the store."""
        suspect = self._suspects.get(channel_id)
        if suspect is not None:
            self._ended(suspect, attempt)
            self._queue(suspect)

    def _group(self, line: Line) -> Trial | None:
        group: list[Suspect] = []
        while len(group) < line.most:
            suspect = line.pop()
            if suspect is None:
                break
            if self._suspects.get(suspect.channel_id) is not suspect or suspect.under is not None:
                continue
            by_itself = suspect.alone and line is self._fresh
            if by_itself and group:
                line.push(suspect, in_front=True)
                break
            if suspect.drafts:
                group.append(suspect)
            if by_itself and group:
                break
        return self._attempt(line, group) if group else None

    def _attempt(self, line: Line, group: list[Suspect]) -> Trial:
        drafts: list[Draft] = []
        most = min(GROUP_MOST, EVENTS_EACH * line.most)
        for number, suspect in enumerate(group):
            room = most - len(drafts)
            if room <= 0:
                for other in reversed(group[number:]):
                    line.push(other, in_front=True)
                group = group[:number]
                break
            taken, suspect.drafts = suspect.drafts[:room], suspect.drafts[room:]
            self._counted(taken, -1)
            drafts += taken
        attempt = Attempt(drafts, alone=len(group) == 1, trial=True)
        for suspect in group:
            suspect.under = attempt
        failures = max(suspect.failures for suspect in group)
        return Trial(attempt, group, READ_S * 2.0 ** min(failures, READ_DOUBLINGS), line)
