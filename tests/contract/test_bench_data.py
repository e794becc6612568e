"""The data sets of `make bench-storage` are written past the ports, and look through them as if they were not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.storage import mongo, postgres, sqlite
from bench.storage.shape import Shape, Stream
from chatkernel.storage.model import EventRange, InsertOutcome, PageQuery, Run
from chatkernel.storage.open import Store, open_store
from chatkernel.storage.url import parts_of

SHAPE, EVENTS = Shape(channels=20, users=40), 600


async def load(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        await sqlite.load(Path(rest[1:]), SHAPE, EVENTS)
    elif scheme == "postgresql":
        await postgres.load(url.partition("?")[0], SHAPE, EVENTS)
    else:
        await mongo.load(url, SHAPE, EVENTS)


async def seen(store: Store) -> dict[str, Any]:
    """All that the ports say of it."""
    found: dict[str, Any] = {
        "heads": await store.heads(SHAPE.ids),
        "unread": await store.unread(SHAPE.everywhere, SHAPE.ids),
        "list": await store.conversations(SHAPE.everywhere, cursor=None, limit=50, archived=False),
    }
    for channel in SHAPE.channels:
        c = channel.channel_id
        found[c] = [
            await store.channel(c),
            await store.members(c),
            await store.grant(c, channel.members[0]),
            await store.page(PageQuery(c, 0, 1_000)),
            await store.events([EventRange(c, 0, 1_000)]),
        ]
    return found


async def test_loaded_data_is_what_the_ports_would_have_written(empty_store_url: str, tmp_path: Path) -> None:
    if len(parts_of(empty_store_url)) > 1:
        return  # the bench measures each store alone
    await load(empty_store_url)
    reference = await open_store(f"sqlite:///{tmp_path}/reference.db")
    await reference.ensure_schema()
    assert set(await reference.insert(SHAPE.begin())) == {InsertOutcome.STORED}
    runs = [Run(event.channel_id, (event,)) for event in Stream(SHAPE, EVENTS).events()]
    for start in range(0, len(runs), 50):
        assert set(await reference.insert(runs[start : start + 50])) == {InsertOutcome.STORED}
    store = await open_store(empty_store_url)
    wanted, found = await seen(reference), await seen(store)
    await store.aclose()
    await reference.aclose()
    for name, value in wanted.items():
        assert found[name] == value, name
