"""The end of a drill: everybody gets what is theirs, and then what is judged is taken at one moment.

Sends end and events arrive while the logs are read. So what people have is copied first, all of it in one turn of the
loop, and the logs are read after that: whatever was acked by then, or handed to a device, is in them, or was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from chatclient.drill.crowd import Device
from chatclient.drill.histories import DeviceHistory, Sent
from chatkernel.protocol import Event

BACK_WITHIN_S = 60.0
"""Nobody may need longer to be connected and in sync after a fault."""

HEALED_WITHIN_S = 10.0
"""A delivery that was lost is found within a heartbeat (or two, for a pong is on its way); then healing takes a
moment."""

HEARTBEAT_S = 10.0
"""Where no device knows."""

Logs: TypeAlias = dict[str, list[Event]]
"""By channel, as the store holds them."""


class Evidence(NamedTuple):
    """What is judged. `heads`: up to where each device must have had everything of its channels; `in_time`: all sends
    ended, and everybody was in sync and had all of that."""

    sends: list[Sent]
    histories: list[DeviceHistory]
    heads: dict[str, int]
    logs: Logs
    in_time: bool


async def settled(
    sent: Sequence[Sent],
    devices: Sequence[Device],
    read_logs: Callable[[], Awaitable[Logs]],
    until: Callable[[Callable[[], bool], float], Awaitable[bool]],
    back_within_s: float = BACK_WITHIN_S,
) -> Evidence:
    """By the usual means alone: nothing here asks for what is missing. `until` waits for a condition for so many
    seconds, and tells whether it came true. Raises what `read_logs` raises."""
    in_time = await until(lambda: all(one.acked_at is not None or one.error for one in sent), back_within_s)
    in_time &= await until(lambda: all(device.client.in_sync for device in devices), back_within_s)
    heads = {channel_id: log[-1].seq for channel_id, log in (await read_logs()).items() if log}
    heartbeat_s = max((device.client.heartbeat_interval_s for device in devices), default=HEARTBEAT_S)
    in_time &= await until(
        lambda: all(is_level(device, heads) for device in devices), 2 * heartbeat_s + HEALED_WITHIN_S
    )
    sends = [replace(one) for one in sent]
    histories = [_copy(device) for device in devices]
    return Evidence(sends, histories, heads, await read_logs(), in_time)


def is_level(device: Device, heads: dict[str, int]) -> bool:
    """Whether it has everything up to there, of the channels that it is in."""
    cursors = device.client.cursors
    return all(cursors[name] >= head for name, head in heads.items() if name in cursors)


def _copy(device: Device) -> DeviceHistory:
    history = device.history
    return replace(
        history,
        cursors=dict(device.client.cursors),
        seen={channel_id: list(seen) for channel_id, seen in history.seen.items()},
        behind=list(history.behind),
        foreign=list(history.foreign),
    )
