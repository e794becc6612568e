"""People and channels, written straight through the storage ports: signing up costs a password hash each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError
from chatkernel.ids import (
    ChannelId,
    DeviceId,
    UserId,
    direct_channel_id,
    group_id,
    new_client_msg_id,
    new_device_id,
    new_user_id,
    now_ms,
)
from chatkernel.message_ids import next_message_id
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, Device, InsertOutcome, Run, User
from chatkernel.storage.open import open_store

REGION = "local"
TOGETHER = 256
"""Writes under way at once: the store groups them into one commit."""

RUNS_PER_INSERT = 200


@dataclass(slots=True)
class Room:
    """A channel, who connects to it (user, device), and how long its log is."""

    channel_id: ChannelId
    seats: list[tuple[UserId, DeviceId]]
    head_seq: int
    kind: ChannelKind = ChannelKind.GROUP


@dataclass(slots=True)
class Dataset:
    hot: list[Room] = field(default_factory=list)
    cross: list[Room] = field(default_factory=list)
    spread: list[Room] = field(default_factory=list)
    durable: list[Room] = field(default_factory=list)
    behind: list[Room] = field(default_factory=list)
    idle: list[Room] = field(default_factory=list)
    reconnect: list[Room] = field(default_factory=list)
    bus: list[Room] = field(default_factory=list)


def group(users: int, devices: int, messages: int = 0) -> Room:
    seats = [
        (user, new_device_id()) for user in (new_user_id() for _ in range(users)) for _ in range(devices)
    ]
    return Room(group_id(REGION, "bench", new_client_msg_id()), seats, 1 + messages)


def pair(messages: int = 0) -> Room:
    seats = [(new_user_id(), new_device_id()) for _ in range(2)]
    return Room(direct_channel_id(REGION, seats[0][0], seats[1][0]), seats, 1 + messages, ChannelKind.DIRECT)


async def store(url: str, rooms: Iterable[Room]) -> None:
    """Write everyone and everything. Raises BenchError."""
    rooms = list(rooms)
    seats = [seat for room in rooms for seat in room.seats]
    at = now_ms()
    port = await open_store(url)
    await port.ensure_schema()
    try:
        users = list(dict.fromkeys(user for user, _ in seats))
        await _together(port.create_user(User(u, f"b{u[2:]}", "Bench", at), "") for u in users)
        await _together(port.add_device(Device(d, u, "bench", at, at)) for u, d in seats)
        for start in range(0, len(rooms), RUNS_PER_INSERT):
            outcomes = await port.insert([_run(room, at) for room in rooms[start : start + RUNS_PER_INSERT]])
            if any(outcome is not InsertOutcome.STORED for outcome in outcomes):
                raise BenchError("the store refused a new channel")
    finally:
        await port.aclose()


async def _together(calls: Iterable[Awaitable[Any]]) -> None:
    batch: list[Awaitable[Any]] = []
    for call in calls:
        batch.append(call)
        if len(batch) == TOGETHER:
            await asyncio.gather(*batch)
            batch = []
    await asyncio.gather(*batch)


def _run(room: Room, at: int) -> Run:
    """The channel's CREATED event and its messages."""
    members = list(dict.fromkeys(user for user, _ in room.seats))
    message_id = next_message_id(at - 60_000, 0)
    name = "" if room.kind is ChannelKind.DIRECT else "bench"
    events = [
        Event(
            room.channel_id,
            1,
            message_id,
            EventKind.CREATED,
            members[0],
            new_client_msg_id(),
            at,
            members_seq=1,
            users=list(members),
            name=name or None,
        )
    ]
    for seq in range(2, room.head_seq + 1):
        message_id = next_message_id(at - 60_000, message_id)
        events.append(
            Event(
                room.channel_id,
                seq,
                message_id,
                EventKind.MESSAGE,
                members[seq % len(members)],
                new_client_msg_id(),
                at,
                messages_before=seq - 2,
                members_seq=1,
                text="m" * 200,
            )
        )
    return Run(room.channel_id, tuple(events), ChannelInfo(room.channel_id, room.kind, name, True))
