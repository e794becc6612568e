"""A failover took back what clients were shown: whoever is connected begins that channel anew, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.one_pod import Elsewhere, OnePod, Wire

from chatclient.sync import SyncState
from chatkernel.protocol import Page, Position, Resync
from chatkernel.storage.open import Store, open_store
from chatkernel.storage.sql.copies import copy_out

ROOM, OTHER = "local_g1", "local_g2"


@pytest.fixture
async def standby(tmp_path: Path, pod: OnePod, elsewhere: Elsewhere) -> AsyncIterator[Store]:
    """What it has is from before the last message; the pod still reads from the other."""
    for channel in (ROOM, OTHER):
        await elsewhere.group(channel, "u_own", "u_eve")
        await elsewhere.say(channel, "kept")
    copy_out(tmp_path / "chat.db", tmp_path / "standby.db")
    store = await open_store(f"sqlite:///{tmp_path}/standby.db")
    yield store
    await store.aclose()


async def compares(pod: OnePod) -> None:
    """As every heartbeat does."""
    pod.looked_at += [ROOM, OTHER]
    await pod.heal()


def resets(wire: Wire) -> list[Resync]:
    return [frame for frame in wire.frames if isinstance(frame, Resync)]


@pytest.mark.parametrize("then", [[], ["another"], ["another", "and one more"]])
async def test_its_clients_are_told_and_stand_where_the_log_ends(
    pod: OnePod, elsewhere: Elsewhere, standby: Store, then: list[str]
) -> None:
    eve, wire = await pod.came("u_eve")
    await elsewhere.say(ROOM, "taken back")
    await compares(pod)
    promoted = Elsewhere(standby, pod)
    promoted.holding = True
    pod.store.moved_to(standby)
    for text in then:
        await promoted.say(ROOM, text)
    # Who comes now, with what was shown, finds it out by itself, and nothing is hidden from the audit by that.
    stood = Position(3, wire.events(ROOM)[-1].message_id)
    late, later = await pod.came("u_eve", {ROOM: stood, OTHER: 2})
    assert resets(later) == [Resync([ROOM], reset=True)]
    wire.frames.clear()
    await compares(pod)
    assert resets(wire) == [Resync([ROOM], reset=True)]
    assert eve.rooms == late.rooms == {ROOM, OTHER}
    state = SyncState("u_eve", {ROOM: 3, OTHER: 2})
    state.reset([ROOM])
    for frame in wire.frames:
        if isinstance(frame, Page):
            state.page(frame)
    assert state.cursors == {ROOM: 2 + len(then), OTHER: 2}
    wire.frames.clear()
    promoted.holding = False
    await promoted.say(ROOM, "live")
    await compares(pod)
    assert wire.texts(ROOM) == ["live"] and not resets(wire)


async def test_a_log_that_goes_on_is_left_alone(pod: OnePod, elsewhere: Elsewhere, standby: Store) -> None:
    _, wire = await pod.came("u_eve")
    for text in ("a", "b"):
        await elsewhere.say(ROOM, text)
        await compares(pod)
    elsewhere.holding = True
    await elsewhere.say(ROOM, "missed")
    await compares(pod)
    assert wire.texts(ROOM) == ["a", "b", "missed"] and not resets(wire)
