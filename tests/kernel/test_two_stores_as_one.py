"""Messages in one store and the directory in another: neither gets more at once than it can take, and what is wrong
with one is said of that one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.storage.open import open_store
from chatkernel.storage.split import split
from chatkernel.storage.store import Store

CHANNELS = 500
MOST_AT_ONCE = 16


class Watched:
    """A real store, and how many calls of each kind were under way in it at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.does_not_close = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.under_way[name] += 1
            self.most[name] = max(self.most[name], self.under_way[name])
            try:
                return await method(*args, **kwargs)
            finally:
                self.under_way[name] -= 1

        return call

    async def aclose(self) -> None:
        await self.store.aclose()
        if self.does_not_close:
            raise ChatError(Code.STORAGE_UNAVAILABLE)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[list[Watched]]:
    opened = [Watched(await open_store(f"sqlite:///{tmp_path}/{name}.db")) for name in ("messages", "people")]
    yield opened
    for part in opened:
        await part.store.aclose()


@pytest.fixture
def both(parts: list[Watched]) -> Store:
    return split(*(cast(Store, part) for part in parts))


async def test_many_pairs_are_asked_for_by_a_few_reads_at_once(both: Store, parts: list[Watched]) -> None:
    await both.ensure_schema()
    assert await both.blocked_channels([f"local_p{number:04}" for number in range(CHANNELS)]) == set()
    assert all(part.most[name] <= MOST_AT_ONCE for part in parts for name in ("members", "blocked_between"))


async def test_each_step_of_the_schema_says_which_store_it_is_in(both: Store) -> None:
    planned = [step.does for step in await both.plan_schema()]
    assert [does.partition(": ")[0] for does in planned] == ["messages", "directory"]
    assert [step.does for step in await both.ensure_schema()] == planned


async def test_a_store_that_does_not_close_keeps_the_other_open_no_longer(
    both: Store, parts: list[Watched]
) -> None:
    await both.ensure_schema()
    parts[0].does_not_close = True
    with pytest.raises(ChatError):
        await both.aclose()
    with pytest.raises(ChatError):
        await parts[1].store.check()
