"""Pages are bounded in events and in bytes, and together they are the log without a gap."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.one_pod import Elsewhere, OnePod

from chatkernel.paging import OUTBOX_SHARE
from chatkernel.protocol import Event, Limits
from chatkernel.storage.model import EventRange
from chatkernel.storage.open import Store

ENVELOPE_BYTES = 1_000
"""What a page has besides its events."""


@pytest.mark.parametrize("channels", [1, 3])
async def test_long_texts_come_in_many_pages_that_are_dense(store: Store, channels: int) -> None:
    limits = Limits(outbox_max_bytes=40_000)
    pod = OnePod(store, limits)
    elsewhere = Elsewhere(store, pod)
    names = [f"local_g{number}" for number in range(channels)]
    for name in names:
        await elsewhere.group(name, "u_own", "u_eve")
        for number in range(12):
            # One of them is larger than a page may be: it comes, alone.
            await elsewhere.say(name, f"{number:02}" + "x" * (12_000 if number == 5 else 3_000))
    eve, wire = await pod.came("u_eve", dict.fromkeys(names, 1))
    for name in names:
        assert [event.seq for event in wire.events(name)] == list(range(2, 14))
    assert eve.rooms == set(names)
    most = limits.outbox_max_bytes // OUTBOX_SHARE
    for page, size in zip(wire.pages, wire.sizes_bytes, strict=True):
        assert size <= most + ENVELOPE_BYTES or len(page.events) == 1
    assert all(not page.done for page in wire.pages[:-1]) and wire.pages[-1].done


async def test_what_does_not_fit_is_not_read_over_and_over(store: Store) -> None:
    limits = Limits(outbox_max_bytes=40_000)
    pod = OnePod(store, limits)
    elsewhere = Elsewhere(store, pod)
    await elsewhere.group("local_g1", "u_own", "u_eve")
    for _ in range(120):
        await elsewhere.say("local_g1", "x" * 3_000)
    read: list[int] = []
    real = store.events

    async def counted(ranges: Sequence[EventRange]) -> list[list[Event]]:
        found = await real(ranges)
        read.append(sum(map(len, found)))
        return found

    store.events = counted  # type: ignore[method-assign]
    _, wire = await pod.came("u_eve", {"local_g1": 1})
    assert [event.seq for event in wire.events("local_g1")] == list(range(2, 122))
    assert read[0] == 120 and sum(read[1:]) <= 2 * 120 and max(read[1:]) <= 6


async def test_what_is_said_during_the_pages_comes_once_and_in_order(store: Store) -> None:
    pod = OnePod(store, Limits(outbox_max_bytes=40_000))
    elsewhere = Elsewhere(store, pod)
    await elsewhere.group("local_g1", "u_own", "u_eve")
    await pod.came("u_own")
    for _ in range(9):
        await elsewhere.say("local_g1", "x" * 3_000)
    for _ in range(20):
        pod.store.after("events", lambda: elsewhere.say("local_g1", "y" * 3_000))
    _, wire = await pod.came("u_eve", {"local_g1": 1})
    seqs = [event.seq for event in wire.events("local_g1")]
    assert seqs == list(range(2, seqs[-1] + 1)) and len(seqs) > 9
    assert seqs[-1] == pod.hub.rooms["local_g1"].last_seq
