"""Pages are bounded in events and in bytes, and together they are the log without a gap."""

from __future__ import annotations

import pytest
from support.one_pod import Elsewhere, OnePod

import chatpod.opening as module
from chatkernel.protocol import Limits
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
    most = limits.outbox_max_bytes // module.PAGE_SHARE_OF_OUTBOX
    for page, size in zip(wire.pages, wire.sizes_bytes, strict=True):
        assert size <= most + ENVELOPE_BYTES or len(page.events) == 1
    assert all(not page.done for page in wire.pages[:-1]) and wire.pages[-1].done


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
