"""The drill's judge must be able to fail: a right history passes, and each kind of bad one is caught."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from chatclient.drill.checker import Verdict, check
from chatclient.drill.crowd import Device
from chatclient.drill.histories import DeviceHistory, Intrusion, Seen, Sent
from chatclient.drill.settling import settled
from chatkernel.protocol import Event, EventKind

ROOM = "r_g1"
ANN, BOB, EVE = "u_ann", "u_bob", "u_eve"


def event(seq: int, sender: str = ANN, key: str | None = None, **fields: object) -> Event:
    kind = fields.pop("kind", EventKind.MESSAGE)
    return Event(ROOM, seq, seq * 10, kind, sender, key or f"k{seq}", 1, **fields)  # type: ignore[arg-type]


def seen_of(source: Event) -> Seen:
    return Seen(source.seq, source.message_id, source.sender_id, source.client_msg_id)


class World:
    """Ann and Bob talk; Eve was removed at seq 4."""

    def __init__(self) -> None:
        self.log = [
            event(1, kind=EventKind.CREATED, users=[ANN, BOB, EVE]),
            event(2),
            event(3, BOB),
            event(4, kind=EventKind.LEAVE, users=[EVE]),
            event(5),
            event(6, BOB),
        ]
        self.sends = [
            Sent(ROOM, e.sender_id, e.client_msg_id, 0.0, 0.1, e.seq, e.message_id)
            for e in self.log
            if e.kind is EventKind.MESSAGE
        ]
        self.bob = self.device(BOB, 6)
        self.eve = self.device(EVE, 4)
        self.intrusions = [Intrusion(EVE, ROOM, "send", False)]

    def device(self, user_id: str, upto: int) -> DeviceHistory:
        seen = [seen_of(e) for e in self.log if 1 < e.seq <= upto]
        return DeviceHistory(user_id, "d1", {ROOM: 1}, {ROOM: upto}, {ROOM: seen})

    def judge(self) -> Verdict:
        return check(self.sends, [self.bob, self.eve], {ROOM: self.log}, self.intrusions)


def test_a_right_history_passes() -> None:
    verdict = World().judge()
    assert verdict.details == []
    assert verdict.kept
    assert (verdict.sent, verdict.acked) == (4, 4)


def acked_message_missing_in_the_store(world: World) -> None:
    world.sends.append(Sent(ROOM, ANN, "gone", 0.0, 0.1, 7, 70))


def device_never_saw_an_event(world: World) -> None:
    del world.bob.seen[ROOM][-1]
    world.bob.cursors[ROOM] = 5


def device_saw_what_the_store_lost(world: World) -> None:
    world.bob.seen[ROOM].append(Seen(7, 70, ANN, "k7"))


def device_has_not_heard_of_the_channel(world: World) -> None:
    world.bob = DeviceHistory(BOB, "d1")


def stored_twice(world: World) -> None:
    world.log.append(event(7, ANN, "k2"))
    world.bob = world.device(BOB, 6)


def delivered_twice(world: World) -> None:
    world.bob.seen[ROOM].append(world.bob.seen[ROOM][-1])


def seen_in_another_order(world: World) -> None:
    seen = world.bob.seen[ROOM]
    seen[0], seen[1] = seen[1], seen[0]


def another_event_at_the_same_place(world: World) -> None:
    world.bob.seen[ROOM][1] = Seen(3, 30, ANN, "other")


def acked_at_another_place(world: World) -> None:
    world.sends[0].seq, world.sends[0].message_id = 3, 30


def hole_in_the_log(world: World) -> None:
    world.log = [e for e in world.log if e.seq != 5]


def ids_that_do_not_rise(world: World) -> None:
    world.log[4] = msgspec.structs.replace(world.log[4], message_id=5)


def cursor_past_an_event_never_had(world: World) -> None:
    del world.bob.seen[ROOM][1]


def event_that_appeared_behind_the_cursor(world: World) -> None:
    late = world.bob.seen[ROOM].pop(2)
    world.bob.behind.append((ROOM, late))


def stranger_read(world: World) -> None:
    world.intrusions.append(Intrusion(EVE, ROOM, "read", True))


def stranger_wrote(world: World) -> None:
    world.log.append(event(7, EVE))


def removed_member_kept_receiving(world: World) -> None:
    world.eve.seen[ROOM].append(seen_of(world.log[4]))


def removed_member_was_sent_what_the_client_refused(world: World) -> None:
    world.eve.foreign.append((ROOM, seen_of(world.log[5])))


@pytest.mark.parametrize(
    ("spoil", "column"),
    [
        (acked_message_missing_in_the_store, "lost"),
        (device_never_saw_an_event, "undelivered"),
        (device_saw_what_the_store_lost, "lost"),
        (device_has_not_heard_of_the_channel, "undelivered"),
        (stored_twice, "duplicated"),
        (delivered_twice, "duplicated"),
        (seen_in_another_order, "reordered"),
        (another_event_at_the_same_place, "reordered"),
        (acked_at_another_place, "reordered"),
        (hole_in_the_log, "reordered"),
        (ids_that_do_not_rise, "reordered"),
        (cursor_past_an_event_never_had, "behind_cursor"),
        (cursor_past_an_event_never_had, "lost"),
        (event_that_appeared_behind_the_cursor, "behind_cursor"),
        (stranger_read, "unauthorised"),
        (stranger_wrote, "unauthorised"),
        (removed_member_kept_receiving, "unauthorised"),
        (removed_member_was_sent_what_the_client_refused, "unauthorised"),
    ],
)
def test_a_bad_history_is_caught(spoil: Callable[[World], None], column: str) -> None:
    world = World()
    spoil(world)
    verdict = world.judge()
    assert getattr(verdict, column) > 0, verdict
    assert not verdict.kept
    assert verdict.details


def test_a_send_that_never_ended_breaks_the_promise_too() -> None:
    world = World()
    world.sends.append(Sent(ROOM, ANN, "k9", 0.0))
    assert not world.judge().kept


def test_one_who_was_away_in_between_has_no_hole() -> None:
    world = World()
    world.log += [event(7, kind=EventKind.JOIN, users=[EVE]), event(8)]
    world.sends.append(Sent(ROOM, ANN, "k8", 0.0, 0.1, 8, 80))
    world.bob = world.device(BOB, 8)
    world.eve.seen[ROOM] += [seen_of(world.log[6]), seen_of(world.log[7])]
    assert world.judge().kept


def test_one_that_is_behind_has_lost_nothing_and_is_not_asked_for_what_came_later() -> None:
    world = World()
    world.bob = world.device(BOB, 3)
    verdict = check(world.sends, [world.bob, world.eve], {ROOM: world.log}, heads={ROOM: 5})
    assert (verdict.lost, verdict.behind_cursor, verdict.undelivered) == (0, 0, 2)
    assert not verdict.kept
    world.bob = world.device(BOB, 5)
    assert check(world.sends, [world.bob, world.eve], {ROOM: world.log}, heads={ROOM: 5}).kept


async def until(condition: Callable[[], bool], within_s: float) -> bool:
    """Nobody waits here: what happens, happens while the logs are read."""
    return condition()


@pytest.mark.parametrize("acked", [True, False])
async def test_what_ends_and_arrives_while_the_logs_are_read_is_not_lost(acked: bool) -> None:
    world = World()
    late = Sent(ROOM, ANN, "late", 0.0)
    world.sends.append(late)
    client = SimpleNamespace(in_sync=True, cursors={ROOM: 6}, heartbeat_interval_s=0.1)
    device = Device(0, cast(Any, client), cast(Any, None), world.bob)
    readings = 0

    async def read() -> dict[str, list[Event]]:
        """Right after each reading the store takes another, and everybody hears of it at once."""
        nonlocal readings
        readings += 1
        found = list(world.log)
        world.log.append(event(6 + readings, ANN, "late" if readings == 2 else None))
        client.cursors[ROOM] = world.log[-1].seq
        world.bob.seen[ROOM].append(seen_of(world.log[-1]))
        if acked and readings == 2:
            late.acked_at, late.seq, late.message_id = 1.0, 8, 80
        return {ROOM: found}

    found = await settled(world.sends, [device], read, until)
    verdict = check(found.sends, found.histories, found.logs, heads=found.heads)
    assert readings == 2
    assert (verdict.lost, verdict.undelivered, verdict.reordered) == (0, 0, 0), verdict.details
    assert (verdict.sent - verdict.acked, found.in_time) == (1, False)


async def test_what_was_acked_and_is_not_stored_is_lost_whenever_one_looks() -> None:
    world = World()
    world.sends[-1].client_msg_id = "gone"
    client = SimpleNamespace(in_sync=True, cursors={ROOM: 6}, heartbeat_interval_s=0.1)

    async def read() -> dict[str, list[Event]]:
        return {ROOM: world.log}

    device = Device(0, cast(Any, client), cast(Any, None), world.bob)
    found = await settled(world.sends, [device], read, until)
    assert found.in_time
    assert check(found.sends, found.histories, found.logs, heads=found.heads).lost == 1
