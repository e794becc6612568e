"""The judge: from what was sent, what each device saw, and what the store holds, to the number of broken
promises.

Pure, so that it can be fed a bad history for each thing it is to find. Terms:

- lost: acked and not in the store's log, or in the log and missing at a device of a member that has what comes after.
- undelivered: in the log, and a device of a member had not come so far when it was asked for the last time.
- duplicated: the same (sender, client_msg_id) twice in the log, or handed twice to one device.
- reordered: a log that is not dense and rising; a device that saw another order than the log, or a hole.
- behind a cursor: an event with seq ≤ what the device says it has, that it never had.
- unauthorised: seen or written by somebody who was not in the channel at that seq.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chatclient.drill.histories import DeviceHistory, Intrusion, Seen, Sent
from chatkernel.protocol import Event, EventKind

DETAILS_MAX = 20
"""Examples that are told; the counts are complete."""

_JOINS = frozenset({EventKind.CREATED, EventKind.JOIN})
_LEAVES = frozenset({EventKind.LEAVE, EventKind.BAN})
FOREVER = 1 << 60


@dataclass(slots=True)
class Verdict:
    """Counts of broken promises, and some examples in words (ids and seqs, never texts)."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    """Sends that ended with an error that the app saw."""
    lost: int = 0
    undelivered: int = 0
    duplicated: int = 0
    reordered: int = 0
    behind_cursor: int = 0
    unauthorised: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether no promise about messages was broken. A send that never ended acked is a broken one too."""
        broken = self.lost + self.undelivered + self.duplicated + self.reordered
        broken += self.behind_cursor + self.unauthorised
        return broken == 0 and self.acked == self.sent

    def tell(self, detail: str) -> None:
        if len(self.details) < DETAILS_MAX:
            self.details.append(detail)


@dataclass(slots=True)
class _Channel:
    """A channel's log with what follows from it."""

    events: dict[int, Event]
    head: int
    stays: dict[str, list[tuple[int, int]]]
    """User → stretches (from the seq of joining, to the seq of leaving) in which they were in it."""
    by_key: dict[tuple[str, str], Event]

    def was_in(self, user_id: str, seq: int) -> bool:
        return any(start <= seq <= end for start, end in self.stays.get(user_id, ()))


def check(
    sends: Iterable[Sent],
    devices: Iterable[DeviceHistory],
    logs: Mapping[str, Sequence[Event]],
    intrusions: Iterable[Intrusion] = (),
    heads: Mapping[str, int] | None = None,
) -> Verdict:
    """`logs`: channel → its whole log as the store holds it, in the order that the store gave; read after what was
    sent and seen was taken, so that this is in it. `heads`: channel → up to where devices should have had everything;
    without, to the end."""
    verdict = Verdict()
    channels = {channel_id: _read_log(channel_id, log, verdict) for channel_id, log in logs.items()}
    for sent in sends:
        _check_sent(sent, channels, verdict)
    for device in devices:
        for channel_id, channel in channels.items():
            head = channel.head if heads is None else heads.get(channel_id, 0)
            _check_device(device, channel_id, channel, head, verdict)
        _check_refused(device, channels, verdict)
    for intrusion in intrusions:
        if intrusion.worked:
            verdict.unauthorised += 1
            verdict.tell(f"{intrusion.user_id} could {intrusion.what} in {intrusion.channel_id}")
    return verdict


def _read_log(channel_id: str, log: Sequence[Event], verdict: Verdict) -> _Channel:
    stays: dict[str, list[tuple[int, int]]] = {}
    by_key: dict[tuple[str, str], Event] = {}
    before, last_id = 0, -1
    for event in log:
        if event.seq != before + 1 or event.message_id <= last_id:
            verdict.reordered += 1
            verdict.tell(f"log of {channel_id}: seq {event.seq} after {before}, id {event.message_id}")
        before, last_id = event.seq, event.message_id
        key = (event.sender_id, event.client_msg_id)
        if key in by_key:
            verdict.duplicated += 1
            verdict.tell(f"log of {channel_id}: {key[1]} at seq {by_key[key].seq} and {event.seq}")
        by_key.setdefault(key, event)
        _note_stays(event, stays)
        if not any(start <= event.seq <= end for start, end in stays.get(event.sender_id, ())):
            verdict.unauthorised += 1
            verdict.tell(f"log of {channel_id}: seq {event.seq} is by {event.sender_id}, who was not in it")
    return _Channel({event.seq: event for event in log}, before, stays, by_key)


def _note_stays(event: Event, stays: dict[str, list[tuple[int, int]]]) -> None:
    for user_id in event.users or ():
        stretches = stays.setdefault(user_id, [])
        if event.kind in _JOINS:
            stretches.append((event.seq, FOREVER))
        elif event.kind in _LEAVES and stretches:
            # The leaving itself is still told to who leaves.
            stretches[-1] = (stretches[-1][0], event.seq)


def _check_sent(sent: Sent, channels: Mapping[str, _Channel], verdict: Verdict) -> None:
    verdict.sent += 1
    if sent.error:
        verdict.refused += 1
        verdict.tell(f"send {sent.client_msg_id} in {sent.channel_id} failed: {sent.error}")
    if sent.acked_at is None:
        return
    verdict.acked += 1
    channel = channels.get(sent.channel_id)
    event = None if channel is None else channel.by_key.get((sent.sender_id, sent.client_msg_id))
    if event is None:
        verdict.lost += 1
        verdict.tell(f"{sent.client_msg_id}, acked as seq {sent.seq} of {sent.channel_id}: not stored")
    elif (event.seq, event.message_id) != (sent.seq, sent.message_id):
        verdict.reordered += 1
        verdict.tell(f"{sent.client_msg_id} was acked as seq {sent.seq} of {sent.channel_id}, is {event.seq}")


def _check_device(
    device: DeviceHistory, channel_id: str, channel: _Channel, head: int, verdict: Verdict
) -> None:
    stays = channel.stays.get(device.user_id)
    seen = device.seen.get(channel_id, [])
    _check_order(device, channel_id, channel, seen, verdict)
    if not stays:
        return
    name = f"{device.user_id}/{device.device}"
    start, end = stays[-1]
    first = max(start - 1, device.baselines.get(channel_id, start - 1))
    cursor = device.cursors.get(channel_id, 0)
    last = min(end, max(head, cursor))
    had = {record.seq for record in seen}
    for seq in range(first + 1, last + 1):
        if seq in had or seq not in channel.events:
            continue
        if seq == end:
            continue  # one who was removed need not be told by an event: being told is a courtesy
        if seq > cursor:
            verdict.undelivered += 1
            verdict.tell(f"{name} had not had seq {seq} of {channel_id} in time")
            continue
        verdict.lost += 1
        verdict.behind_cursor += 1
        verdict.tell(f"{name} never had seq {seq} of {channel_id}")


def _check_order(
    device: DeviceHistory, channel_id: str, channel: _Channel, seen: Sequence[Seen], verdict: Verdict
) -> None:
    name = f"{device.user_id}/{device.device}"
    last: int | None = None
    keys: set[tuple[str, str]] = set()
    for record in seen:
        key = (record.sender_id, record.client_msg_id)
        if key in keys:
            verdict.duplicated += 1
            verdict.tell(f"{name} had {record.client_msg_id} of {channel_id} twice")
        elif last is not None and record.seq != last + 1 and not _may_skip(device, channel, last, record.seq):
            verdict.reordered += 1
            verdict.tell(f"{name} had seq {record.seq} of {channel_id} after {last}")
        keys.add(key)
        last = record.seq
        event = channel.events.get(record.seq)
        if event is None:
            verdict.lost += 1
            verdict.tell(f"{name} had seq {record.seq} of {channel_id}: not in the store")
        elif (event.message_id, event.sender_id, event.client_msg_id) != record[1:]:
            verdict.reordered += 1
            verdict.tell(f"{name} had another event as seq {record.seq} of {channel_id} than the store")
        if not channel.was_in(device.user_id, record.seq):
            verdict.unauthorised += 1
            verdict.tell(f"{name} had seq {record.seq} of {channel_id} without being in it")


def _may_skip(device: DeviceHistory, channel: _Channel, last: int, seq: int) -> bool:
    """A hole is right where the person was away: after their leaving, up to their joining again."""
    if seq <= last:
        return False
    return not any(channel.was_in(device.user_id, missed) for missed in range(last + 1, seq))


def _check_refused(device: DeviceHistory, channels: Mapping[str, _Channel], verdict: Verdict) -> None:
    """What came to the device and was not handed on, because it was not ours or should have come before."""
    name = f"{device.user_id}/{device.device}"
    for channel_id, record in (*device.foreign, *device.behind):
        channel = channels.get(channel_id)
        if channel is not None and not channel.was_in(device.user_id, record.seq):
            verdict.unauthorised += 1
            verdict.tell(f"{name} was sent seq {record.seq} of {channel_id} without being in it")
    for channel_id, record in device.behind:
        had = device.seen.get(channel_id, [])
        if record.seq <= device.cursors.get(channel_id, 0) and record not in had:
            verdict.behind_cursor += 1
            verdict.tell(f"{name}: seq {record.seq} of {channel_id} came behind its cursor")
