"""Pods are processes: several of them write to one store at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from itertools import pairwise
from pathlib import Path

import pytest
from channel_log import ChannelLog

from chatkernel.storage.model import EventRange
from chatkernel.storage.open import Store, open_store

SCRIPT = Path(__file__).with_name("appending_process.py")


async def started(url: str, writer: str, appends: int, channel_ids: list[str]) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), url, writer, str(appends), *channel_ids, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def acked(process: Process) -> list[tuple[str, int, str]]:
    """What the process says was stored: channel, seq, number."""
    out, _ = await process.communicate()
    return parsed(out)


def parsed(out: bytes) -> list[tuple[str, int, str]]:
    return [(line[0], int(line[1]), line[2]) for line in map(str.split, out.decode().splitlines())]


def go(processes: list[Process]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")


@pytest.mark.parametrize(
    "writers", [pytest.param(4, marks=pytest.mark.stores), pytest.param(8, marks=pytest.mark.slow)]
)
async def test_processes_at_once_leave_dense_logs(empty_store_url: str, writers: int) -> None:
    """They make the store's tables at once, then all write to one channel and each to one of its own: nothing
    lost, nothing twice, no error."""
    appends = 80 // writers
    ids = ["local_gshared", *(f"local_gown{number}" for number in range(writers))]
    processes = await asyncio.gather(
        *(
            started(empty_store_url, f"w{number}", appends, [ids[0], ids[number + 1]])
            for number in range(writers)
        )
    )
    store = await open_store(empty_store_url)
    await store.check()
    for channel_id in ids:
        await ChannelLog(store, channel_id).create("u_ann", "u_bob")
    go(processes)
    reports = await asyncio.gather(*(acked(process) for process in processes))
    assert [process.returncode for process in processes] == [0] * writers
    for channel_id, expected in ((ids[0], 81), *((own, appends + 1) for own in ids[1:])):
        [events] = await store.events([EventRange(channel_id, 0, 1000)])
        assert [event.seq for event in events] == list(range(1, expected + 1))
        assert len({(event.sender_id, event.client_msg_id) for event in events}) == expected
        assert all(a.message_id < b.message_id for a, b in pairwise(events))
        stored = {(channel_id, event.seq, event.client_msg_id) for event in events[1:]}
        assert stored == {line for report in reports for line in report if line[0] == channel_id}
    await store.aclose()


async def test_what_a_killed_process_acked_is_there(store: Store, store_url: str) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    victim, other = await asyncio.gather(
        started(store_url, "victim", 100_000, [log.channel_id]),
        started(store_url, "other", 30, [log.channel_id]),
    )
    go([victim, other])
    assert victim.stdout is not None
    said = [await victim.stdout.readline() for _ in range(20)]
    victim.send_signal(signal.SIGKILL)
    report = await acked(victim) + parsed(b"".join(said))
    assert len(await acked(other)) == 30
    [events] = await store.events([EventRange(log.channel_id, 0, 1_000_000)])
    by_seq = {event.seq: (event.sender_id, event.client_msg_id) for event in events}
    assert sorted(by_seq) == list(range(1, len(by_seq) + 1))
    assert all(by_seq[seq] == ("victim", number) for _, seq, number in report)
