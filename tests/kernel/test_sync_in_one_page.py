"""Where pages cannot be sent one by one (HTTP), a sync is asked again until it is done."""

from __future__ import annotations

from support.desk import Desk

from chatkernel.messaging import Actor
from chatkernel.protocol import Ack, Limits, Page, Send, Sync
from chatkernel.storage.store import Store

ANN = Actor("ann", "d")


async def ask(desk: Desk, cursors: dict[str, int]) -> Page:
    page, ack = await desk.messaging.perform(ANN, Sync("1", cursors))
    assert isinstance(page, Page) and isinstance(ack, Ack)
    return page


async def test_asking_again_with_moved_cursors_gets_everything(store: Store) -> None:
    desk = Desk(store, Limits(page_max_items=4))
    channels = [await desk.group("ann", "bob") for _ in range(3)]
    for channel in channels[:2]:
        for n in range(6):
            await desk.does("ann", Send("1", channel, f"k{n}", "hello"))
    cursors = {**dict.fromkeys(channels, 0), channels[2]: 1, "local_gone": 3}
    got: list[tuple[str, int]] = []
    for _ in range(10):
        page = await ask(desk, cursors)
        assert len(page.events) <= 4
        for event in page.events:
            got.append((event.channel_id, event.seq))
            cursors[event.channel_id] = event.seq
        for channel, head in page.heads.items():
            cursors[channel] = head.seq
        if page.done:
            break
    assert page.left == ["local_gone"]
    assert sorted(got) == sorted((channel, seq) for channel in channels[:2] for seq in range(1, 8))
    assert cursors == {channels[0]: 7, channels[1]: 7, channels[2]: 1, "local_gone": 3}


async def test_what_fits_is_done_at_once(desk: Desk) -> None:
    channel = await desk.group("ann", "bob")
    page = await ask(desk, {channel: 0})
    assert ([event.seq for event in page.events], page.heads[channel].seq, page.done) == ([1], 1, True)
