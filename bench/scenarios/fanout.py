"""One message to a hundred people: a hot room, and many rooms at once; beside them the kernel's own limit."""

from __future__ import annotations

from bench import bareloop, machine
from bench.dataset import Room
from bench.plans import Plan, Window, merged, middle_percentile_ms, undisturbed
from bench.remote import Remote
from bench.scenarios.context import Bench, middle, per_cpu_s, plan
from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind, encode_json

HOT_IN_FLIGHT = 32
BUSY_IN_FLIGHT = 8
CONNECTS_AT_ONCE = 64
SAMPLED_EVERY = 10

Active = list[tuple[int, int]]


def ready_frame(room: Room) -> bytes:
    """An event as the pod would write it to that room."""
    sender = room.seats[0][0]
    text = f"@{0:016d} " + "x" * 182
    at = now_ms()
    event = Event(
        room.channel_id, 12_345, at << 12, EventKind.MESSAGE, sender, "c" * 30, at, 12_344, 1, text=text
    )
    return encode_json(event)


def room_plans(bench_plans: list[Plan], port: int) -> list[Plan]:
    """The same connections to the bare loop: the path names the room."""
    return [
        Plan(
            "u", each.device_id, "127.0.0.1", port, "/" + next(iter(each.cursors)), channel_id=each.channel_id
        )
        for each in bench_plans
    ]


def spaced(rooms: list[Room], senders: int, each: int = 1) -> Active:
    """`senders` connections of every room, evenly taken, each with `each` requests in flight."""
    active, base = [], 0
    for room in rooms:
        size = len(room.seats)
        active += [(base + n * size // senders, each) for n in range(senders)]
        base += size
    return active


def hot_room(bench: Bench) -> None:
    """32 of 100 members send, the next message when the last is acked; then half of that rate, open loop."""
    rooms, sizes = bench.data.hot, bench.sizes
    active, lone = spaced(rooms, HOT_IN_FLIGHT), spaced(rooms, 1, HOT_IN_FLIGHT)
    pod = bench.cluster.start_chat_pod("chat-hot")
    with (
        Remote(bareloop.main, machine.SERVER_CORE) as bare,
        bench.client() as client,
        bench.client() as other,
    ):
        plans = [
            plan(pod, rooms[0], n, sends=True, sampled=n % SAMPLED_EVERY == 0)
            for n in range(len(rooms[0].seats))
        ]
        client.call("open", plans, CONNECTS_AT_ONCE)
        other.call("open", room_plans(plans, bare.call("listen", ready_frame(rooms[0]))), CONNECTS_AT_ONCE)
        product: list[Window] = []
        single: list[float] = []
        limit: list[float] = []
        joined: list[float] = []
        for _ in range(sizes.rounds):
            product.append(client.call("closed_loop", active, sizes.warm_s, sizes.window_s, [pod.pid]))
            alone = client.call("closed_loop", lone, sizes.warm_s, sizes.window_s / 2, [pod.pid])
            single.append(per_cpu_s(alone.events, alone, pod.pid))
            for coalesce, figures in ((False, limit), (True, joined)):
                bare.call("coalesce", coalesce)
                raw = other.call("closed_loop", active, sizes.warm_s / 2, sizes.window_s / 2, [bare.pid])
                figures.append(per_cpu_s(raw.events, raw, bare.pid))
        messages_per_s = middle([window.acks / window.wall_s for window in product])
        seconds = client.call(
            "open_loop", [n for n, _ in active], messages_per_s / 2, sizes.warm_s, sizes.latency_s, [pod.pid]
        )
        calm = undisturbed(seconds)
        ages = merged(calm)
    bench.cluster.retire(pod)
    bench.results |= {
        "hot_room_deliveries_per_cpu_s": middle([per_cpu_s(w.events, w, pod.pid) for w in product]),
        "hot_room_one_sender_deliveries_per_cpu_s": middle(single),
        "hot_room_kernel_limit_per_cpu_s": middle(limit),
        "hot_room_kernel_limit_joined_per_cpu_s": middle(joined),
        "hot_room_deliveries_per_s": middle([w.events / w.wall_s for w in product]),
        "hot_room_cpu_share": middle([w.cpu_s[pod.pid] / w.wall_s for w in product]),
        "half_load_p50_ms": middle_percentile_ms(calm, 0.5),
        "half_load_p99_ms": middle_percentile_ms(calm, 0.99),
        "half_load_whole_p99_ms": ages.percentile_ms(0.99),
        "half_load_messages_per_s": ages.acks / ages.wall_s,
        "half_load_cpu_share": ages.cpu_s[pod.pid] / ages.wall_s,
        "half_load_client_cpu_share": ages.client_cpu_s / ages.wall_s,
        "half_load_client_late_p99_ms": ages.late_percentile_ms(0.99),
        "half_load_seconds_undisturbed": f"{len(calm)} of {len(seconds)}",
        "half_load_stolen_share": merged(seconds).stolen_share,
    }


def spread_rooms(bench: Bench) -> None:
    """Rooms of 100 connections (25 people with 4 devices each): the kernel's price of a write decides."""
    rooms, sizes = bench.data.spread, bench.sizes
    calm, busy = spaced(rooms, 1), spaced(rooms, BUSY_IN_FLIGHT)
    senders = {n for n, _ in calm} | {n for n, _ in busy}
    pod = bench.cluster.start_chat_pod("chat-spread")
    with (
        Remote(bareloop.main, machine.SERVER_CORE) as bare,
        bench.client() as client,
        bench.client() as other,
    ):
        seats = [(room, n) for room in rooms for n in range(len(room.seats))]
        plans = [plan(pod, room, n, sends=index in senders) for index, (room, n) in enumerate(seats)]
        connected = client.call("open", plans, CONNECTS_AT_ONCE, [pod.pid])
        other.call("beats", False)
        other.call("open", room_plans(plans, bare.call("listen", ready_frame(rooms[0]))), CONNECTS_AT_ONCE)
        one: list[Window] = []
        eight: list[Window] = []
        limit: list[float] = []
        for _ in range(sizes.rounds):
            one.append(client.call("closed_loop", calm, sizes.warm_s, sizes.window_s, [pod.pid]))
            raw = other.call("closed_loop", calm, sizes.warm_s / 2, sizes.window_s, [bare.pid])
            limit.append(per_cpu_s(raw.events, raw, bare.pid))
            eight.append(client.call("closed_loop", busy, sizes.warm_s, sizes.window_s, [pod.pid]))
    bench.cluster.retire(pod)
    calm_figure = middle([per_cpu_s(w.events, w, pod.pid) for w in one])
    bench.results |= {
        "spread_busy_deliveries_per_cpu_s": middle([per_cpu_s(w.events, w, pod.pid) for w in eight]),
        "spread_deliveries_per_cpu_s": calm_figure,
        "spread_kernel_limit_per_cpu_s": middle(limit),
        "spread_share_of_kernel_limit": calm_figure / middle(limit),
        "spread_connections": len(plans),
        "spread_cpu_share": middle([w.cpu_s[pod.pid] / w.wall_s for w in one]),
        "spread_busy_cpu_share": middle([w.cpu_s[pod.pid] / w.wall_s for w in eight]),
        "spread_connects_per_cpu_s": per_cpu_s(len(plans), connected, pod.pid),
    }
