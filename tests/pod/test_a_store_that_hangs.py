"""A store that neither answers nor fails: senders hear of it in time, and what was stored after all is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.one_pod import HookedStore

from chatkernel import backlog, pump
from chatkernel.appender import Appender
from chatkernel.drafts import Placed
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, EventRange, InsertOutcome, Run, SendKey
from chatkernel.storage.open import open_store

DEADLINE_S = 0.3
SOON_S = 2 * backlog.LOOK_S
CHANNEL = "local_ghangs"


class Sends:
    def __init__(self, store: HookedStore) -> None:
        hooked: Any = store
        self.store, self.told = store, list[Event]()
        self.appender = Appender(
            hooked, hooked, now_ms, before_insert=lambda _: None, on_stored=self.told.extend
        )

    async def send(self, key: str, kind: EventKind = EventKind.MESSAGE, **more: Any) -> tuple[Placed, bool]:
        return await self.appender.append(
            channel_id=CHANNEL, sender_id="u_ann", client_msg_id=key, kind=kind, members_seq=1, **more
        )

    async def refused(self, *keys: str) -> list[ChatError]:
        """All of them, and in time."""
        async with asyncio.timeout(DEADLINE_S + SOON_S):
            answers = await asyncio.gather(
                *(self.send(key, text=key) for key in keys), return_exceptions=True
            )
        return [answer for answer in answers if isinstance(answer, ChatError)]

    async def log(self) -> list[str]:
        [events] = await self.store.events([EventRange(CHANNEL, 1, 1000)])
        return [event.client_msg_id for event in events]


@pytest.fixture
async def sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sends]:
    monkeypatch.setattr(backlog, "DEADLINE_S", DEADLINE_S)
    store = await open_store(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    sends = Sends(HookedStore(store))
    info = ChannelInfo(CHANNEL, ChannelKind.GROUP, "Team", False)
    await sends.send("created", EventKind.CREATED, users=["u_ann"], channel=info)
    yield sends
    await sends.appender.aclose()
    await store.aclose()


def until(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await event.wait()

    return wait


async def test_who_is_at_the_store_and_who_waits_behind_hear_in_time(
    sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "STUCK_S", 0.1)
    thawed = asyncio.Event()
    sends.store.before("insert", until(thawed))
    at_the_store = asyncio.create_task(sends.refused("a", "b"))
    await asyncio.sleep(0.02)
    behind = await sends.refused(*(f"w{number}" for number in range(50)))
    refusals = [*await at_the_store, *behind]
    assert len(refusals) == 52
    assert {refusal.code for refusal in refusals} == {Code.STORAGE_UNAVAILABLE}
    assert all(refusal.retryable for refusal in refusals)
    assert sends.appender.waiting == 0
    thawed.set()
    # What was at the store is stored, told to everyone, and acked to who comes again; the others leave no trace.
    assert [(await sends.send(key, text=key))[0].seq for key in ("a", "b", "w0")] == [2, 3, 4]
    assert (await sends.send("a", text="a"))[1]
    assert await sends.log() == ["a", "b", "w0"]
    assert [event.client_msg_id for event in sends.told] == ["created", "a", "b", "w0"]


async def test_an_answer_that_is_lost_after_the_deadline_changes_nothing(
    sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "SLOW_S", 60.0)  # else it would be found meanwhile
    answered = asyncio.Event()

    async def lose() -> None:
        await answered.wait()
        raise ChatError(Code.STORAGE_UNAVAILABLE)

    sends.store.after("insert", lose)
    assert len(await sends.refused("a")) == 1
    answered.set()
    placed, duplicate = await sends.send("a", text="a")
    assert (placed.seq, duplicate) == (2, True)
    assert await sends.log() == ["a"]


async def test_the_room_of_what_was_given_up_is_free_again(
    sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "WAITING_MAX", 10)
    thawed = asyncio.Event()
    sends.store.before("insert", until(thawed))
    at_the_store = asyncio.create_task(sends.refused("a"))
    await asyncio.sleep(0.02)
    for _ in range(3):
        refusals = await sends.refused(*(f"w{number}" for number in range(25)))
        assert len(refusals) == 25
        busy = [refusal for refusal in refusals if refusal.limit == 10]
        assert len(busy) == 15 and all(refusal.retry_after_s for refusal in busy)
    await at_the_store
    thawed.set()
    await sends.send("late", text="late")
    assert await sends.log() == ["a", "late"]


async def test_damage_is_told_at_once_and_not_tried_again(sends: Sends) -> None:
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise ChatError(Code.STORAGE_DAMAGED)

    sends.store.before("insert", fail, fail)
    with pytest.raises(ChatError) as refused:
        await sends.send("a", text="a")
    assert refused.value.code is Code.STORAGE_DAMAGED and tries == 1


async def test_a_store_that_manages_little_at_a_time_is_given_little_at_a_time(
    sends: Sends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails what is too much for it: the same batch tried over and over would never get through."""
    monkeypatch.setattr(backlog, "DEADLINE_S", 20.0)
    real, most = sends.store._store, 10

    def too_much(keys: int) -> None:
        if keys > most:
            raise ChatError(Code.STORAGE_UNAVAILABLE)

    async def insert(runs: Sequence[Run]) -> list[InsertOutcome]:
        too_much(sum(len(run.events) for run in runs))
        return await real.insert(runs)

    async def find_sent(keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        too_much(len(keys))
        return await real.find_sent(keys)

    monkeypatch.setattr(sends.store, "insert", insert, raising=False)
    monkeypatch.setattr(sends.store, "find_sent", find_sent, raising=False)
    async with asyncio.timeout(10):
        await asyncio.gather(*(sends.send(f"k{number}", text="x") for number in range(200)))
    assert len(set(await sends.log())) == 200
