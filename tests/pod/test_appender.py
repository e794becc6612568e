"""Appending on remembered heads: races, twins, unknown outcomes, stale grants and strange clocks, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import chatkernel.appender as module
from chatkernel import backlog
from chatkernel.appender import Appender
from chatkernel.drafts import Placed
from chatkernel.errors import ChatError, Code
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, EventRange, Head, InsertOutcome, Run, SendKey
from chatkernel.storage.open import Store, open_store

START_MS = 1_790_000_000_000


class Faults:
    """A real store behind a wire that can fail: before a call, after it, or at a chosen moment."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.inserts = self.finds = 0
        self.before_insert: list[Callable[[], Awaitable[None]]] = []
        self.after_insert: list[Callable[[], Awaitable[None]]] = []
        self.before_grant: list[Callable[[], Awaitable[None]]] = []
        self.before_find: list[Callable[[], Awaitable[None]]] = []

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        self.inserts += 1
        await _next(self.before_insert)
        outcomes = await self.store.insert(runs)
        await _next(self.after_insert)
        return outcomes

    async def find_sent(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        self.finds += 1
        await _next(self.before_find)
        return await self.store.find_sent(keys)

    async def grant(self, channel_id: str, user_id: str) -> Any:
        found = await self.store.grant(channel_id, user_id)
        await _next(self.before_grant)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def _next(steps: list[Callable[[], Awaitable[None]]]) -> None:
    if steps:
        await steps.pop(0)()


async def fails() -> None:
    raise ChatError(Code.STORAGE_UNAVAILABLE)


class Writer:
    """One pod's appender, with what it told."""

    def __init__(self, faults: Faults, now: Callable[[], int] = lambda: START_MS) -> None:
        self.faults, self.told = faults, []  # type: ignore[var-annotated]
        self.appender = Appender(
            faults,  # type: ignore[arg-type]
            faults,  # type: ignore[arg-type]
            now,
            before_insert=lambda _: None,
            on_stored=self.told.extend,
            random_source=Random(1),
        )

    async def say(
        self, channel: str, sender: str, key: str = "", members_seq: int = 1, text: str = "hello"
    ) -> tuple[Placed, bool]:
        return await self.appender.append(
            channel_id=channel,
            sender_id=sender,
            client_msg_id=key or new_client_msg_id(),
            kind=EventKind.MESSAGE,
            members_seq=members_seq,
            text=text,
        )

    async def create(self, channel: str, *users: str) -> None:
        await self.appender.append(
            channel_id=channel,
            sender_id=users[0],
            client_msg_id="open",
            kind=EventKind.CREATED,
            members_seq=0,
            users=list(users),
            channel=ChannelInfo(channel, ChannelKind.GROUP, "Team", True),
        )

    async def leave(self, channel: str, user: str) -> tuple[Placed, bool]:
        return await self.appender.append(
            channel_id=channel,
            sender_id="u_ann",
            client_msg_id=new_client_msg_id(),
            kind=EventKind.LEAVE,
            members_seq=1,
            users=[user],
        )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path / 'chat.db'}")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@pytest.fixture
def faults(store: Store) -> Faults:
    return Faults(store)


async def log_of(store: Store, channel: str) -> list[Event]:
    [events] = await store.events([EventRange(channel, 0, 10_000)])
    return events


def is_dense_and_rising(log: list[Event]) -> bool:
    ids = [event.message_id for event in log]
    messages = [event.messages_before for event in log if event.kind is EventKind.MESSAGE]
    return (
        [event.seq for event in log] == list(range(1, len(log) + 1))
        and ids == sorted(set(ids))
        and messages == list(range(len(messages)))
    )


async def test_writers_that_meet_fill_one_dense_log(store: Store) -> None:
    """Two pods whose clocks are an hour apart and run backwards."""
    backwards = iter(range(START_MS, 0, -1000))
    one, other = (
        Writer(Faults(store), lambda: next(backwards)),
        Writer(Faults(store), lambda: START_MS - 3_600_000),
    )
    await one.create("g_1", "u_ann", "u_bob")
    says = [writer.say("g_1", "u_ann") for _ in range(40) for writer in (one, other)]
    placed = await asyncio.gather(*says)
    log = await log_of(store, "g_1")
    assert is_dense_and_rising(log) and len(log) == 81
    assert sorted(p.seq for p, _ in placed) == list(range(2, 82))
    assert {(p.seq, p.message_id) for p, _ in placed} == {(e.seq, e.message_id) for e in log[1:]}


async def test_twins_in_one_batch_are_one_event(faults: Faults) -> None:
    writer = Writer(faults)
    await writer.create("g_1", "u_ann")
    answers = await asyncio.gather(*(writer.say("g_1", "u_ann", "same") for _ in range(5)))
    assert len({placed for placed, _ in answers}) == 1
    assert sorted(duplicate for _, duplicate in answers) == [False, True, True, True, True]
    assert len(await log_of(faults.store, "g_1")) == 2


async def test_an_insert_whose_answer_is_lost_is_found_and_told(faults: Faults) -> None:
    writer = Writer(faults)
    await writer.create("g_1", "u_ann")
    faults.after_insert = [fails]
    placed, _ = await writer.say("g_1", "u_ann", "k")
    log = await log_of(faults.store, "g_1")
    assert [event.seq for event in log] == [1, 2] and placed.seq == 2
    assert [event.seq for event in writer.told] == [1, 2]


async def test_a_store_that_is_away_for_a_moment_costs_time_only(faults: Faults) -> None:
    writer = Writer(faults)
    await writer.create("g_1", "u_ann")
    faults.before_insert, faults.before_find = [fails, fails], [fails]
    answers = await asyncio.gather(*(writer.say("g_1", "u_ann", f"k{n}") for n in range(3)))
    assert sorted(placed.seq for placed, _ in answers) == [2, 3, 4]
    assert is_dense_and_rising(await log_of(faults.store, "g_1"))


async def test_a_store_that_stays_away_is_a_retryable_error(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "DEADLINE_S", 0.05)
    writer = Writer(faults)
    await writer.create("g_1", "u_ann")
    faults.before_insert = [fails] * 100
    with pytest.raises(ChatError) as caught:
        await writer.say("g_1", "u_ann", "k")
    assert caught.value.retryable
    faults.before_insert = []
    monkeypatch.undo()
    placed, duplicate = await writer.say("g_1", "u_ann", "k")
    assert (placed.seq, duplicate) == (2, False)


async def test_a_removed_member_cannot_append_on_any_head(store: Store) -> None:
    one, other = Writer(Faults(store)), Writer(Faults(store))
    await one.create("g_1", "u_ann", "u_eve")
    await other.say("g_1", "u_eve")
    await one.leave("g_1", "u_eve")
    for writer in (one, other):  # the other one still remembers a head from before
        with pytest.raises(ChatError) as caught:
            await writer.say("g_1", "u_eve")
        assert caught.value.code is Code.CHANNEL_NOT_FOUND
    assert (await other.say("g_1", "u_ann"))[0].seq == 4


async def test_what_follows_a_removal_in_one_batch_is_refused(faults: Faults) -> None:
    writer = Writer(faults)
    await writer.create("g_1", "u_ann", "u_eve")
    answers = await asyncio.gather(
        writer.say("g_1", "u_eve"),
        writer.leave("g_1", "u_eve"),
        writer.say("g_1", "u_eve"),
        writer.say("g_1", "u_ann"),
        return_exceptions=True,
    )
    assert [isinstance(answer, ChatError) for answer in answers] == [False, False, True, False]
    log = await log_of(faults.store, "g_1")
    assert [(event.kind, event.sender_id) for event in log[1:]] == [
        ("message", "u_eve"),
        ("leave", "u_ann"),
        ("message", "u_ann"),
    ]


async def test_a_removal_heard_of_while_others_are_checked_counts_for_all(store: Store) -> None:
    """Eve is allowed on the head that was looked at. Before the batch is built the bus brings her removal, which
    moves the head: she must not be built upon it unchecked."""
    one, faults = Writer(Faults(store)), Faults(store)
    other = Writer(faults)
    await one.create("g_1", "u_ann", "u_bob", "u_eve")
    await other.say("g_1", "u_ann")

    async def eve_is_removed() -> None:
        await one.leave("g_1", "u_eve")
        other.appender.saw((await log_of(store, "g_1"))[-1])

    faults.before_grant = [eve_is_removed]
    answers = await asyncio.gather(
        other.say("g_1", "u_eve", members_seq=1),
        other.say("g_1", "u_bob", members_seq=0),  # an older grant: read again, which takes a moment
        return_exceptions=True,
    )
    log = await log_of(store, "g_1")
    left_at = next(event.seq for event in log if event.kind is EventKind.LEAVE)
    assert [e.seq for e in log if e.sender_id == "u_eve" and e.seq > left_at] == []
    assert isinstance(answers[0], ChatError) and not isinstance(answers[1], BaseException)


async def test_more_channels_than_heads_are_remembered(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEADS_MAX", 4)
    writer = Writer(faults)
    for n in range(12):
        await writer.create(f"g_{n}", "u_ann")
    for _ in range(3):
        answers = await asyncio.gather(*(writer.say(f"g_{n}", "u_ann") for n in range(12)))
        assert not any(duplicate for _, duplicate in answers)
    for n in range(12):
        assert is_dense_and_rising(await log_of(faults.store, f"g_{n}"))


async def test_each_draft_is_answered_once_whatever_fails(faults: Faults) -> None:
    writer = Writer(faults)
    await writer.create("g_1", "u_ann", "u_bob")
    await writer.say("g_1", "u_ann", "known")
    answers: dict[str, int] = {}

    def submit(key: str, sender: str, members_seq: int) -> None:
        def done(placed: Placed | None, error: ChatError | None, duplicate: bool) -> None:
            answers[key] = answers.get(key, 0) + 1

        writer.appender.submit(
            module.Draft("g_1", sender, key, EventKind.MESSAGE, members_seq, done, "hello")
        )

    faults.before_insert, faults.after_insert = [fails], [fails]
    faults.before_grant = [fails]
    for key, sender, members_seq in [
        ("known", "u_ann", 1),
        ("new", "u_ann", 1),
        ("older grant", "u_bob", 0),
        ("no member", "u_eve", 0),
    ]:
        submit(key, sender, members_seq)
    await writer.appender.aclose()
    assert answers == {"known": 1, "new": 1, "older grant": 1, "no member": 1}


async def test_a_head_that_was_heard_of_saves_the_next_append_a_look(store: Store) -> None:
    one, faults = Writer(Faults(store)), Faults(store)
    other = Writer(faults)
    await one.create("g_1", "u_ann")
    await other.say("g_1", "u_ann")
    for _ in range(5):
        await one.say("g_1", "u_ann")
        other.appender.saw((await log_of(store, "g_1"))[-1])
    before = faults.inserts
    await other.say("g_1", "u_ann")
    assert faults.inserts == before + 1 and faults.finds == 0
    assert (await store.heads(["g_1"]))["g_1"].seq == 8
    assert Head().seq == 0


async def test_a_channel_that_keeps_losing_holds_up_no_other(faults: Faults) -> None:
    """Another pod is quicker each time; meanwhile other channels are stored, and nothing overtakes in this one."""
    writer, rival = Writer(faults), Writer(Faults(faults.store))
    for channel in ("g_busy", "g_calm"):
        await writer.create(channel, "u_ann")
    losses = 0
    stored: list[str] = []

    async def rival_is_quicker() -> None:
        nonlocal losses
        losses += 1
        await rival.say("g_busy", "u_ann")

    async def say(channel: str, key: str) -> None:
        await writer.say(channel, "u_ann", key)
        stored.append(key)

    faults.before_insert = [rival_is_quicker] * 7
    busy = [asyncio.create_task(say("g_busy", f"busy {n}")) for n in range(3)]
    while losses < 4:
        await asyncio.sleep(0)
    await say("g_calm", "calm")
    assert losses < 7 or stored[0] == "calm"
    await asyncio.gather(*busy)
    assert stored == ["calm", "busy 0", "busy 1", "busy 2"]
    log = await log_of(faults.store, "g_busy")
    assert is_dense_and_rising(log)
    assert [e.client_msg_id for e in log if e.client_msg_id.startswith("busy")] == stored[1:]


async def test_an_outage_is_over_for_all_senders_at_the_deadline(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More wait than one batch holds: the last do not wait for the deadlines of those before them."""
    monkeypatch.setattr(backlog, "DEADLINE_S", 0.2)
    monkeypatch.setattr(backlog, "BATCH_MAX_EVENTS", 4)
    writer = Writer(faults)
    await writer.create("g_0", "u_ann")

    async def is_away() -> None:
        await asyncio.sleep(0.05)
        raise ChatError(Code.STORAGE_UNAVAILABLE)

    monkeypatch.setattr(faults.store, "heads", lambda _: is_away())
    faults.before_insert = faults.before_find = [is_away] * 1000
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    answers = await asyncio.gather(
        *(writer.say(f"g_{n}", "u_ann", f"k{n}") for n in range(60)), return_exceptions=True
    )
    assert all(isinstance(answer, ChatError) and answer.retryable for answer in answers)
    assert loop.time() - started_s < 0.6


async def test_what_waits_is_bounded_in_bytes_and_free_again_afterwards(faults: Faults) -> None:
    writer = Writer(faults)
    writer.appender.wait_for_at_most(100_000)
    await writer.create("c", "u_ann")
    for _ in range(2):  # the second time shows that what was stored does not count any more
        held = asyncio.Event()
        faults.before_insert.append(_wait_for(held))
        calls: list[asyncio.Task[tuple[Placed, bool]]] = []
        with pytest.raises(ChatError) as caught:
            while len(calls) < 20:
                calls.append(asyncio.create_task(writer.say("c", "u_ann", text="x" * 16_000)))
                await asyncio.sleep(0)
                if calls[-1].done():
                    await calls.pop()
        assert (caught.value.code, caught.value.limit) == (Code.BUSY, 100_000)
        assert 4 <= len(calls) <= 7
        held.set()
        places = [placed.seq for placed, _ in await asyncio.gather(*calls)]
        assert places == list(range(places[0], places[0] + len(places)))


def _wait_for(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await event.wait()

    return wait
