"""Forks writers that are there to be killed: run by tests. The imports are paid once, and each writer is a process.

A line on standard input names a store's URL and how many pages a checkpoint waits for; the writer begins at once, and
its process id is the first line of the answer. It appends groups to several channels through the real appender until
it is killed, and writes a line for each ack: channel, seq, client_msg_id. An empty line says that it is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from sqlalchemy import Connection

from chatkernel.appender import Appender
from chatkernel.drafts import Draft, Placed
from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind
from chatkernel.storage.sql import SqlStore, migrations, open_sql

IMPORTED = (migrations,)
"""What a store imports only when it is needed."""
CHANNELS = [f"local_gkilled{number}" for number in range(6)]
SENDERS = 4
TEXT = "All that was acked has to be there. " * 30
TEXTS_MAX = 8
"""A text is up to so many times as long: commits are of one page or of many."""


class Writer:
    """Every sender of every channel sends its next message when it has its ack."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.appender = Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None)
        self.numbers = count()

    async def create(self) -> None:
        """Those channels that the writers before did not live to make."""
        found = await self.store.heads(CHANNELS)
        for channel_id in CHANNELS:
            if channel_id not in found:
                await self.appender.append(
                    channel_id=channel_id,
                    sender_id="u_0",
                    client_msg_id="created",
                    kind=EventKind.CREATED,
                    members_seq=0,
                    users=[f"u_{number}" for number in range(SENDERS)],
                    channel=ChannelInfo(channel_id, ChannelKind.GROUP, "Killed", False),
                )

    def send(self, channel_id: str, sender: int) -> None:
        number = next(self.numbers)
        key = f"{os.getpid()}-{number}"

        def done(placed: Placed | None, error: ChatError | None, duplicate: bool) -> None:
            if placed is None or duplicate:
                raise SystemExit(f"{key}: {error or 'a duplicate'}")
            os.write(1, f"{channel_id} {placed.seq} {key}\n".encode())
            self.send(channel_id, sender)

        text = TEXT * (number % TEXTS_MAX)
        self.appender.submit(
            Draft(channel_id, f"u_{sender}", key, EventKind.MESSAGE, 1, done, text or "short")
        )


async def write(url: str, checkpoint_pages: int) -> None:
    """Until killed."""
    store = await open_sql(url)
    await store.ensure_schema()

    def checkpoint_often(conn: Connection) -> None:
        conn.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")

    await store._db.write(checkpoint_often)
    writer = Writer(store)
    await writer.create()
    for channel_id in CHANNELS:
        for sender in range(SENDERS):
            writer.send(channel_id, sender)
    await asyncio.Event().wait()


def main() -> None:
    for line in sys.stdin:
        url, checkpoint_pages = line.split()
        pid = os.fork()
        if pid == 0:
            asyncio.run(write(url, int(checkpoint_pages)))
            os._exit(1)
        os.write(1, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, b"\n" if os.WIFSIGNALED(status) else b"ended by itself\n\n")


if __name__ == "__main__":
    main()
