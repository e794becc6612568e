"""The client's own promises against real pods: its cache, its resends, and moving before the old socket closes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.cluster import Cluster, eventually
from support.crew import crew

from chatclient.link import Link, _Request
from chatclient.listener import StateChange, Up
from chatkernel.protocol import ClientFrame, EventKind, History


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[History]:
    """The pages of history that clients ask pods for."""
    asked: list[History] = []
    request = Link.request

    async def watched(self: Link, frame: ClientFrame) -> _Request:
        if isinstance(frame, History):
            asked.append(frame)
        return await request(self, frame)

    monkeypatch.setattr(Link, "request", watched)
    return asked


async def test_what_is_in_the_cache_is_not_fetched_again_and_what_is_new_comes_once(
    cluster: Cluster, tmp_path: Path, fetched: list[History]
) -> None:
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        writer = await some.phone(ann)
        for n in range(2, 32):
            await some.send(writer, channel, str(n))
        phone = await some.phone(bob, cache_path=tmp_path / "device.db")
        view = await phone.client.history(channel, limit=20)
        assert [item.event.text for item in view.items] == [str(n) for n in range(12, 32)]
        await some.send(writer, channel, "32")
        assert await some.settled(channel)
        assert phone.had(channel) == [32]
        tokens = phone.client.api.tokens
        await phone.client.close()
        some.phones.remove(phone)

        await some.send(writer, channel, "33")
        again = await some.phone(bob, cache_path=tmp_path / "device.db", tokens=tokens)
        assert await some.settled(channel)
        assert again.had(channel) == [33]
        assert len(fetched) == 1
        view = await again.client.history(channel, limit=20)
        assert [item.event.text for item in view.items] == [str(n) for n in range(14, 34)]
        assert len(fetched) == 1, "all of it was in the cache"
        view = await again.client.history(channel, limit=5, before=14)
        assert [item.event.text for item in view.items] == [str(n) for n in range(9, 14)]
        assert [frame.limit for frame in fetched[1:]] == [3], "only what was not in it"


async def test_a_send_whose_ack_was_lost_is_sent_again_with_its_key_and_stored_once(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        phone, other = await some.phone(ann), await some.phone(bob)
        link = phone.client.link
        assert link is not None and link.socket is not None
        link.socket.pause_reading()
        sending = asyncio.create_task(phone.client.send(channel, "once", client_msg_id="key-of-once"))

        async def stored() -> bool:
            return 2 in other.had(channel)

        await eventually(stored)
        link.abort()
        ack = await sending
        assert (ack.seq, ack.duplicate) == (2, True)
        assert phone.client.reconnects == 1
        assert await some.settled(channel)
        messages = [event for event in await some.log_of(channel) if event.kind is EventKind.MESSAGE]
        assert [(event.seq, event.client_msg_id) for event in messages] == [(2, "key-of-once")]
        assert phone.had(channel) == other.had(channel) == [2]


async def test_it_is_on_another_pod_before_the_old_socket_closes_and_no_send_fails(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        (ann,) = await some.people("ann")
        channel = await some.group(ann)
        phone = await some.phone(ann)
        old, changes = phone.client.link, list[tuple[StateChange, bool]]()
        assert old is not None
        note = phone.recorder.on_state

        def on_state(change: StateChange) -> None:
            changes.append((change, old.is_open))
            note(change)

        phone.recorder.on_state = on_state  # type: ignore[method-assign]

        async def moved() -> bool:
            await some.send(phone, channel)
            return bool(changes)

        async def left() -> bool:
            await some.send(phone, channel)
            return not old.is_open

        await cluster.order("drain", pod=old.pod)
        await eventually(moved, 20)
        await eventually(left, 20)
        ((change, old_was_open),) = changes
        assert isinstance(change, Up) and change.moved and change.from_pod == old.pod != change.pod
        assert old_was_open, "the old socket closed before there was another"
        assert (phone.client.moves, phone.client.reconnects) == (1, 0)
        assert await some.settled(channel)
        verdict = await some.judge([channel])
        assert verdict.kept and verdict.sent > 2, verdict
        await cluster.whole(2)
