"""A process of its own that appends to shared channels through the store, as a pod would: run by tests.

Arguments: store URL, writer's name, appends per channel, then the channel ids. Prints a line per acked append.
"""

from __future__ import annotations

import asyncio
import sys
import time

from chatkernel.ids import now_ms
from chatkernel.message_ids import next_message_id
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import InsertOutcome, Run
from chatkernel.storage.open import Store, open_store


async def append(store: Store, channel_id: str, writer: str, number: int) -> None:
    """Retry on the head that is read after each refusal."""
    while True:
        head = (await store.heads([channel_id]))[channel_id]
        event = Event(
            channel_id,
            head.seq + 1,
            next_message_id(now_ms(), head.message_id),
            EventKind.MESSAGE,
            writer,
            str(number),
            now_ms(),
            head.messages,
            head.members_seq,
            text=f"{writer} {number}",
        )
        began = time.monotonic()
        outcome = await store.insert([Run(channel_id, (event,))])
        waited_ms = (time.monotonic() - began) * 1000
        if outcome == [InsertOutcome.STORED]:
            print(channel_id, event.seq, number, f"{waited_ms:.1f}", flush=True)
            return


async def append_all(store: Store, channel_id: str, writer: str, appends: int) -> None:
    for number in range(appends):
        await append(store, channel_id, writer, number)


async def main(url: str, writer: str, appends: int, channel_ids: list[str]) -> None:
    store = await open_store(url)
    await store.ensure_schema()
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(append_all(store, channel_id, writer, appends) for channel_id in channel_ids))
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
