"""The real chat pod with faults that a file switches on: `deaf` to the bus, `mute` on it, `stuck` before hello."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatkernel.bus import Bus, Post
from chatpod.main import main
from chatpod.opening import Opener

_file = Path(os.environ["CHAT_TEST_FAULTS"])


def _is(fault: str) -> bool:
    return fault in _file.read_text().split()


def install() -> None:
    read, publish, opened = Bus.read, Bus.publish, Opener.open

    async def reading(self: Bus, stop: asyncio.Event) -> Any:
        async for batch in read(self, stop):
            if not _is("deaf"):
                yield batch

    async def publishing(self: Bus, posts: Sequence[Post], *args: Any, **kwargs: Any) -> Any:
        return await publish(self, [] if _is("mute") else posts, *args, **kwargs)

    async def opening(self: Opener, *args: Any) -> None:
        while _is("stuck"):
            await asyncio.sleep(0.05)
        await opened(self, *args)

    Bus.read, Bus.publish, Opener.open = reading, publishing, opening  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    install()
    main()
