"""Pods are processes: several of them write to one store at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from itertools import pairwise
from pathlib import Path

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


async def acked(process: Process) -> list[tuple[str, int, int]]:
    """What the process says was stored: channel, seq, number."""
    out, _ = await process.communicate()
    return [(line[0], int(line[1]), int(line[2])) for line in map(str.split, out.decode().splitlines())]


def go(processes: list[Process]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")


async def test_four_processes_leave_dense_logs(store: Store, store_url: str) -> None:
    """One channel that all write to, and one for each: nothing lost, nothing twice, no error."""
    shared = ChannelLog(store)
    await shared.create("u_ann", "u_bob")
    own = [ChannelLog(store) for _ in range(4)]
    for log in own:
        await log.create("u_ann", "u_bob")
    processes = await asyncio.gather(
        *(
            started(store_url, f"w{number}", 25, [shared.channel_id, own[number].channel_id])
            for number in range(4)
        )
    )
    go(processes)
    reports = await asyncio.gather(*(acked(process) for process in processes))
    assert [process.returncode for process in processes] == [0] * 4
    for log, expected in ((shared, 101), *((log, 26) for log in own)):
        [events] = await store.events([EventRange(log.channel_id, 0, 1000)])
        assert [event.seq for event in events] == list(range(1, expected + 1))
        assert len({(event.sender_id, event.client_msg_id) for event in events}) == expected
        assert all(a.message_id < b.message_id for a, b in pairwise(events))
        stored = {(log.channel_id, event.seq, event.client_msg_id) for event in events[1:]}
        assert stored == {
            (channel_id, seq, str(number))
            for report in reports
            for channel_id, seq, number in report
            if channel_id == log.channel_id
        }


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
    report = await acked(victim) + [
        (line[0], int(line[1]), int(line[2])) for line in map(str.split, map(bytes.decode, said))
    ]
    assert len(await acked(other)) == 30
    [events] = await store.events([EventRange(log.channel_id, 0, 1_000_000)])
    by_seq = {event.seq: (event.sender_id, event.client_msg_id) for event in events}
    assert sorted(by_seq) == list(range(1, len(by_seq) + 1))
    assert all(by_seq[seq] == ("victim", str(number)) for _, seq, number in report)


async def test_several_open_a_new_store_at_once(store_url: str) -> None:
    processes = await asyncio.gather(*(started(store_url, f"w{number}", 0, []) for number in range(4)))
    go(processes)
    assert [await acked(process) for process in processes] == [[]] * 4
    assert [process.returncode for process in processes] == [0] * 4
    opened = await open_store(store_url)
    await opened.check()
    await opened.aclose()
