"""A store that serves some channels and not others, as when one shard of several is away: only those suffer, and when
they are served again all is there once and in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chatkernel import apart, backlog, pump
from chatkernel.appender import Appender
from chatkernel.drafts import Draft, Placed
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import (
    Absence,
    ChannelInfo,
    ChannelKind,
    EventRange,
    Grant,
    Head,
    InsertOutcome,
    Run,
    SendKey,
)
from chatkernel.storage.open import Store, open_store

TIMEOUT_S = 1.0
"""Of the store: what needs the part that is away ends after it."""
DEAD, WELL = [f"g_dead{n}" for n in range(6)], [f"g_well{n}" for n in range(6)]


class PartlyAway:
    """A real store. What is about a channel that is away waits, all of it, and fails; of an insert all other runs are
    stored at once, and those that are away perhaps early, perhaps late."""

    def __init__(self, store: Store, chance: Random) -> None:
        self.store, self._chance = store, chance
        self.away: set[str] = set()
        self.fails_at_once = self.reads = False
        """What is away: fails without a wait; answers reads."""
        self.fault: Exception | None = None
        """Raised once, by the next look for what was sent."""
        self._back = asyncio.Event()
        self.under_way: dict[str, int] = {}
        self.most_under_way = self.most_stored = 0
        self.asked: Counter[str] = Counter()
        self.inserts: Counter[str] = Counter()

    def back(self) -> None:
        self.away = set()
        self._back.set()
        self._back = asyncio.Event()

    async def _waits(self, channels: Sequence[str]) -> None:
        """Raises ChatError, unless they are back before."""
        if not self.away.isdisjoint(channels):
            if not self.fails_at_once:
                try:
                    await asyncio.wait_for(self._back.wait(), TIMEOUT_S)
                except TimeoutError:
                    pass
                else:
                    return
            raise ChatError(Code.STORAGE_UNAVAILABLE)

    async def _reads(self, channels: Sequence[str]) -> None:
        if not self.reads:
            await self._waits(channels)

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        open_ = {run.channel_id: run for run in runs}
        self.inserts.update(open_.keys())
        for channel in open_:
            self.under_way[channel] = self.under_way.get(channel, 0) + 1
            self.most_under_way = max(self.most_under_way, self.under_way[channel])
        outcomes: dict[str, InsertOutcome] = {}

        async def store(channels: Sequence[str]) -> None:
            mine = [open_.pop(channel) for channel in channels]
            self.most_stored = max(self.most_stored, *(len(run.events) for run in mine), 0)
            try:
                outcomes.update(zip(channels, await self.store.insert(mine), strict=True))
            finally:
                for channel in channels:
                    self.under_way[channel] -= 1

        try:
            early = [c for c in open_ if c not in self.away or self._chance.random() < 0.3]
            await store(early)
            if open_:
                await self._waits(list(open_))
                await store(list(open_))
                if self._chance.random() < 0.3:
                    raise ChatError(Code.STORAGE_UNAVAILABLE)
            elif not self.away.isdisjoint(early):
                await self._waits(early)
        finally:
            for channel in open_:
                self.under_way[channel] -= 1
        return [outcomes[run.channel_id] for run in runs]

    async def find_sent(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        self.asked.update({key.channel_id for key in keys})
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        await self._reads([key.channel_id for key in keys])
        return await self.store.find_sent(keys)

    async def heads(self, channel_ids: Sequence[str]) -> dict[str, Head]:
        self.asked.update(channel_ids)
        await self._reads(channel_ids)
        return await self.store.heads(channel_ids)

    async def grant(self, channel_id: str, user_id: str) -> Grant | Absence:
        await self._reads([channel_id])
        return await self.store.grant(channel_id, user_id)


class Sends:
    def __init__(self, store: Store, seed: int = 1) -> None:
        self.parts = PartlyAway(store, Random(seed))
        hooked: Any = self.parts
        self.appender = Appender(
            hooked,
            hooked,
            now_ms,
            before_insert=lambda _: None,
            on_stored=lambda _: None,
            random_source=Random(seed),
        )

    async def create(self, *channels: str) -> None:
        for channel in channels:
            await self.appender.append(
                channel_id=channel,
                sender_id="u_ann",
                client_msg_id="created",
                kind=EventKind.CREATED,
                members_seq=0,
                users=["u_ann", "u_eve"],
                channel=ChannelInfo(channel, ChannelKind.GROUP, "Team", False),
            )

    async def say(self, channel: str, key: str, text: str = "hello", sender: str = "u_ann") -> Placed:
        placed, _ = await self.appender.append(
            channel_id=channel,
            sender_id=sender,
            client_msg_id=key,
            kind=EventKind.MESSAGE,
            members_seq=1,
            text=text,
        )
        return placed

    async def say_until_acked(self, channel: str, key: str) -> None:
        while True:
            try:
                await self.say(channel, key)
            except ChatError as error:
                assert error.retryable
                await asyncio.sleep(0.05)
            else:
                return

    async def keys(self, channel: str) -> list[str]:
        [events] = await self.parts.store.events([EventRange(channel, 1, 10_000)])
        assert [event.seq for event in events] == list(range(2, len(events) + 2))
        return [event.client_msg_id for event in events]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An impatient pod, so that a moment is long enough for everything to happen."""
    monkeypatch.setattr(pump, "SLOW_S", 0.05)
    monkeypatch.setattr(apart, "READ_S", 0.03)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/chat.db")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("fails_at_once", [False, True])
async def test_who_is_served_is_acked_while_others_wait(store: Store, fails_at_once: bool) -> None:
    """All are sent in one batch, and then more of all: none that is served waits for the store's time-out."""
    sends = Sends(store)
    await sends.create(*DEAD, *WELL)
    sends.parts.away, sends.parts.fails_at_once = set(DEAD), fails_at_once
    dead = [asyncio.create_task(sends.say_until_acked(channel, "one")) for channel in DEAD]
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(sends.say(channel, "one") for channel in WELL))
        dead += [asyncio.create_task(sends.say_until_acked(channel, "two")) for channel in DEAD]
        for key in ("two", "three"):
            await asyncio.gather(*(sends.say(channel, key) for channel in WELL))
    assert not any(task.done() for task in dead)
    sends.parts.back()
    await asyncio.gather(*dead)
    for channel in WELL:
        assert await sends.keys(channel) == ["one", "two", "three"]
    for channel in DEAD:
        assert await sends.keys(channel) == ["one", "two"]
    await sends.appender.aclose()


async def test_channels_that_were_not_written_to_before_are_served_too(store: Store) -> None:
    """Of none it is remembered where its log ends: reading that waits already, for those that are away."""
    await Sends(store).create(*DEAD, *WELL)
    sends = Sends(store)
    sends.parts.away = set(DEAD)
    dead = [asyncio.create_task(sends.say_until_acked(channel, "one")) for channel in DEAD]
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(sends.say(channel, "one") for channel in WELL))
    sends.parts.back()
    await asyncio.gather(*dead)
    await sends.appender.aclose()


async def test_a_look_that_fails_in_an_unknown_way_is_not_the_last(store: Store) -> None:
    sends = Sends(store)
    await sends.create(*DEAD[:1])
    sends.parts.away, sends.parts.fault = set(DEAD), ValueError("a fault of our own")
    sent = asyncio.create_task(sends.say(DEAD[0], "one"))
    async with asyncio.timeout(5):
        while sends.parts.asked[DEAD[0]] < 3:
            await asyncio.sleep(0.01)
        sends.parts.back()
        await sent
        await sends.appender.aclose()


async def test_who_is_not_served_hears_in_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "DEADLINE_S", 0.3)
    sends = Sends(store)
    await sends.create(*DEAD[:2], *WELL[:1])
    sends.parts.away = set(DEAD)
    async with asyncio.timeout(0.3 + 2 * backlog.LOOK_S):
        answers = await asyncio.gather(
            *(sends.say(channel, f"k{n}") for channel in DEAD[:2] for n in range(20)), return_exceptions=True
        )
    assert all(isinstance(answer, ChatError) and answer.retryable for answer in answers)
    assert {answer.code for answer in answers if isinstance(answer, ChatError)} == {Code.STORAGE_UNAVAILABLE}
    await sends.say(WELL[0], "here")
    sends.parts.back()
    await sends.appender.aclose()


async def test_what_waits_for_the_part_that_is_away_leaves_room_for_the_others(store: Store) -> None:
    sends = Sends(store)
    sends.appender.wait_for_at_most(400_000)
    await sends.create(*DEAD[:1], *WELL)
    sends.parts.away = set(DEAD)
    dead = [asyncio.create_task(sends.say(DEAD[0], "first"))]
    await sends.say(WELL[0], "here")
    busy: list[ChatError] = []
    while not busy:
        sending = asyncio.create_task(sends.say(DEAD[0], f"k{len(dead)}", "x" * 16_000))
        await asyncio.sleep(0.001)
        if sending.done():
            busy = [error for error in (sending.exception(),) if isinstance(error, ChatError)]
        else:
            dead.append(sending)
    assert (busy[0].code, busy[0].limit) == (Code.BUSY, 200_000) and busy[0].retry_after_s
    await asyncio.gather(*(sends.say(channel, "big", "x" * 16_000) for channel in WELL))
    sends.parts.back()
    await asyncio.gather(*dead)
    assert await sends.keys(DEAD[0]) == ["first", *(f"k{n}" for n in range(1, len(dead)))]
    await sends.appender.aclose()


async def test_a_member_who_was_removed_meanwhile_is_refused(store: Store) -> None:
    """The other pod is on the right side of whatever is away."""
    sends, other = Sends(store), Sends(store)
    await sends.create(DEAD[0], WELL[0])
    sends.parts.away = {DEAD[0]}
    late = asyncio.create_task(sends.say(DEAD[0], "late", sender="u_eve"))
    await sends.say(WELL[0], "here")
    await other.appender.append(
        channel_id=DEAD[0],
        sender_id="u_ann",
        client_msg_id="out",
        kind=EventKind.LEAVE,
        members_seq=1,
        users=["u_eve"],
    )
    sends.parts.back()
    outcome = (await asyncio.gather(late, return_exceptions=True))[0]
    keys = await sends.keys(DEAD[0])
    if isinstance(outcome, ChatError):
        assert outcome.code is Code.CHANNEL_NOT_FOUND and "late" not in keys
    else:
        assert keys == ["late", "out"]
    await sends.appender.aclose()


async def test_many_that_can_be_read_but_not_written_do_not_keep_the_places_of_others(store: Store) -> None:
    """As of a primary that has lost its majority, until it steps down."""
    dead = [f"g_dead{n}" for n in range(60)]
    sends = Sends(store)
    await sends.create(*dead, *WELL)
    sends.parts.away, sends.parts.reads = set(dead), True
    waiting = [asyncio.create_task(sends.say_until_acked(channel, "one")) for channel in dead]
    while sum(sends.parts.inserts[channel] > 2 for channel in dead) <= pump.LET_GO_MAX:
        await asyncio.sleep(0.001)  # created, tried together, and now by itself
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(sends.say(channel, "one") for channel in WELL))
    sends.parts.back()
    await asyncio.gather(*waiting)
    for channel in (*dead, *WELL):
        assert await sends.keys(channel) == ["one"]
    await sends.appender.aclose()


async def test_one_that_failed_only_once_does_not_wait_behind_those_that_always_do(store: Store) -> None:
    dead, hiccup = [f"g_dead{n}" for n in range(60)], WELL[0]
    sends = Sends(store)
    await sends.create(*dead, *WELL)
    sends.parts.away = {*dead, hiccup}
    waiting = [asyncio.create_task(sends.say_until_acked(channel, "one")) for channel in dead]
    while min(sends.parts.asked[channel] for channel in dead) < 4:
        await asyncio.sleep(0.01)
    tried = sends.parts.asked[hiccup]
    late = asyncio.create_task(sends.say(hiccup, "one"))
    while sends.parts.asked[hiccup] == tried:
        await asyncio.sleep(0.001)
    sends.parts.away.remove(hiccup)  # this try fails yet
    async with asyncio.timeout(TIMEOUT_S):
        await late
    sends.parts.back()
    await asyncio.gather(*waiting)
    await sends.appender.aclose()


async def test_channels_that_keep_failing_make_the_batches_of_others_no_smaller(store: Store) -> None:
    sends = Sends(store)
    await sends.create(*DEAD, *WELL)
    sends.parts.away, sends.parts.fails_at_once = set(DEAD), True
    waiting = [asyncio.create_task(sends.say_until_acked(channel, "one")) for channel in DEAD]
    for number in range(10):
        await asyncio.gather(*(sends.say(channel, f"k{number}") for channel in WELL))
    for burst in range(5):
        failed = {channel: sends.parts.asked[channel] for channel in DEAD}
        while any(sends.parts.asked[channel] < failed[channel] + 2 for channel in DEAD):
            await asyncio.sleep(0.01)
        sends.parts.most_stored = 0
        await asyncio.gather(*(sends.say(WELL[0], f"many{burst}_{n}") for n in range(300)))
        assert sends.parts.most_stored >= 200
    sends.parts.back()
    await asyncio.gather(*waiting)
    await sends.appender.aclose()


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_nor_twice_nor_overtaken_whatever_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Parts go and come back, at random; senders do not wait for their acks."""
    monkeypatch.setattr(backlog, "DEADLINE_S", 60.0)
    chance, sends = Random(seed), Sends(store, seed)
    monkeypatch.setattr(f"{__name__}.TIMEOUT_S", chance.choice([0.1, 0.3]))
    channels = DEAD + WELL
    await sends.create(*channels)
    asked: dict[str, list[str]] = {channel: [] for channel in channels}
    answers: list[tuple[str, str, Placed | None, bool]] = []

    def submit(channel: str, key: str) -> None:
        def done(placed: Placed | None, _error: ChatError | None, duplicate: bool) -> None:
            answers.append((channel, key, placed, duplicate))

        sends.appender.submit(
            Draft(channel, "u_ann", key, EventKind.MESSAGE, chance.choice([0, 1]), done, "x")
        )

    for number in range(150):
        if number % 25 == 0:
            sends.parts.back()
            sends.parts.fails_at_once = chance.random() < 0.3
            sends.parts.reads = chance.random() < 0.3
            if chance.random() < 0.7:
                sends.parts.away = set(chance.sample(channels, chance.randint(1, len(channels))))
        channel = chance.choice(channels)
        key = chance.choice(asked[channel]) if asked[channel] and chance.random() < 0.1 else f"k{number}"
        if key not in asked[channel]:
            asked[channel].append(key)
        submit(channel, key)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
    sends.parts.back()
    await sends.appender.aclose()
    assert len(answers) == 150 and all(placed is not None for _, _, placed, _ in answers)
    for channel in channels:
        keys = await sends.keys(channel)
        assert keys == asked[channel]
        assert {(key, placed.seq) for where, key, placed, _ in answers if where == channel and placed} == {
            (key, seq) for seq, key in enumerate(keys, start=2)
        }
    assert sends.parts.most_under_way == 1
