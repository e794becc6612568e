"""What needs several pods or the API: discovery, crossing pods, the bus, the death of a pod."""

from __future__ import annotations

import asyncio
import time

from bench import machine
from bench.cluster import CLUSTER, KEY_PREFIX, Cluster, Service
from bench.dataset import Room
from bench.errors import BenchError
from bench.plans import Plan, merged, middle_percentile_ms, undisturbed
from bench.scenarios.context import Bench, middle, per_cpu_s, plan
from bench.scenarios.fanout import HOT_IN_FLIGHT
from bench.tokens import access_token
from chatkernel.keys import Keys
from chatkernel.redis_client import connect
from chatkernel.registry import PodEntry, PodState, Registry
from chatkernel.routes import Routes

CONNECTS_AT_ONCE = 64
SEATS_IN_FLIGHT = 16
SEAT_TOKENS = 500
CROSS_SENDERS = 16
SIMULATED_PODS = 30
BACK_TIMEOUT_S = 30.0


def seats(bench: Bench) -> None:
    """`POST /v1/seats` with different people's tokens, one chat pod to choose."""
    if bench.api is None:
        raise BenchError("no API pod")
    pod = bench.cluster.start_chat_pod("chat-seats")
    rooms = [*bench.data.idle, *bench.data.spread]
    people = [seat for room in rooms for seat in room.seats][:SEAT_TOKENS]
    tokens = [access_token(bench.cluster.secret_file, user, device) for user, device in people]
    sizes, pid = bench.sizes, bench.api.pid
    machine.pin(pid, machine.SERVER_CORE)
    with bench.client() as client:
        windows = [
            client.call(
                "http_loop", tokens, "/v1/seats", {}, SEATS_IN_FLIGHT, (sizes.warm_s, sizes.window_s), [pid]
            )
            for _ in range(sizes.rounds)
        ]
    machine.pin(pid, machine.CLIENT_CORE)
    bench.cluster.retire(pod)
    bench.results |= {
        "seats_per_cpu_s": middle([per_cpu_s(w.answers, w, pid) for w in windows]),
        "seats_per_s": middle([w.answers / w.wall_s for w in windows]),
    }


def cross_pods(bench: Bench) -> None:
    """The hot room again: 16 senders on one pod, everybody else on another, at half of the rate that saturates the
    two of them."""
    sizes, room = bench.sizes, bench.data.cross[0]
    near, far = bench.cluster.start_chat_pod("chat-near"), bench.cluster.start_chat_pod("chat-far", None)
    with bench.client() as client:
        size = len(room.seats)
        plans = [plan(near, room, n, sends=True) for n in range(CROSS_SENDERS)]
        plans += [plan(far, room, n, sampled=n % 5 == 0) for n in range(CROSS_SENDERS, size)]
        client.call("open", plans, CONNECTS_AT_ONCE)
        pids = [near.pid, far.pid]
        active = [(n, HOT_IN_FLIGHT // CROSS_SENDERS) for n in range(CROSS_SENDERS)]
        most = client.call("closed_loop", active, sizes.warm_s, sizes.window_s, pids)
        before = client.call("totals")
        rate = most.acks / most.wall_s / 2
        seconds = client.call(
            "open_loop", list(range(CROSS_SENDERS)), rate, sizes.warm_s, sizes.latency_s, pids
        )
        after = client.call("totals")
    calm = undisturbed(seconds)
    ages = merged(calm)
    missing = (after["sent"] - before["sent"]) * size - (after["events"] - before["events"])
    bench.cluster.retire(near)
    bench.cluster.retire(far)
    bench.results |= {
        "cross_pod_p50_ms": middle_percentile_ms(calm, 0.5),
        "cross_pod_p99_ms": middle_percentile_ms(calm, 0.99),
        "cross_pod_whole_p99_ms": ages.percentile_ms(0.99),
        "cross_pod_messages_per_s": ages.acks / ages.wall_s,
        "cross_pod_deliveries_missing": missing,
        "cross_pod_seconds_undisturbed": f"{len(calm)} of {len(seconds)}",
        "cross_pod_stolen_share": merged(seconds).stolen_share,
        "cross_pod_sender_cpu_share": ages.cpu_s[near.pid] / ages.wall_s,
        "cross_pod_receiver_cpu_share": ages.cpu_s[far.pid] / ages.wall_s,
    }


def bus_writes(bench: Bench) -> None:
    """Pairs across two pods, one message at a time: stream writes a message with 2 and with 32 pods known."""
    sizes, rooms = bench.sizes, bench.data.bus
    near, far = bench.cluster.start_chat_pod("chat-bus-a"), bench.cluster.start_chat_pod("chat-bus-b")
    with bench.client() as client, bench.cluster.redis() as redis:
        plans = [plan(near, room, 0, sends=True) for room in rooms] + [plan(far, room, 1) for room in rooms]
        client.call("open", plans, CONNECTS_AT_ONCE)

        def writes() -> int:
            return int(redis.info("commandstats").get("cmdstat_xadd", {}).get("calls", 0))

        def measure() -> tuple[float, float]:
            """Stream writes and the sending pod's CPU microseconds, per message."""
            sent_before, before = client.call("totals")["sent"], writes()
            window = client.call("closed_loop", [(0, 1)], sizes.warm_s, sizes.window_s, [near.pid])
            sent = client.call("totals")["sent"] - sent_before
            return (writes() - before) / sent, window.cpu_s[near.pid] * 1e6 / window.acks

        few = measure()
        asyncio.run(simulate_pods(bench.cluster, SIMULATED_PODS))
        many = measure()
    bench.cluster.retire(near)
    bench.cluster.retire(far)
    bench.results |= {
        "bus_writes_per_message": many[0],
        "bus_writes_per_message_2_pods": few[0],
        "bus_writes_per_message_32_pods": many[0],
        "bus_writes_flat": abs(many[0] - few[0]) <= 0.05 * few[0],
        "bus_cpu_us_per_message_2_pods": few[1],
        "bus_cpu_us_per_message_32_pods": many[1],
    }


async def simulate_pods(cluster: Cluster, count: int) -> None:
    """Registry entries and routes of pods that nobody's messages concern."""
    redis, keys = connect(cluster.redis_url), Keys(KEY_PREFIX, CLUSTER)
    try:
        registry = Registry(redis, keys)
        for number in range(count):
            name = f"chat-simulated-{number}"
            entry = PodEntry(
                name=name,
                incarnation=f"i{number}",
                url="ws://127.0.0.1:9/",
                region="local",
                revision="bench",
                state=PodState.READY,
                connections=1_000,
                capacity=1_000,
                started_at=int(time.time() * 1000),
                lease_until=0,
            )
            await registry.renew(entry, 300.0)
            await Routes(redis, keys, name).add(channels=[f"local_gsimulated{number}x{n}" for n in range(50)])
    finally:
        await redis.aclose()


def reconnects(bench: Bench) -> None:
    """SIGKILL a pod: everyone takes a new seat through discovery, comes back with cursors, and is in sync."""
    rooms = bench.data.reconnect
    people = [(room, seat) for room in rooms for seat in range(len(room.seats))]
    rates: list[float] = []
    slowest: list[float] = []
    old = bench.cluster.start_chat_pod("chat-back-0", None)
    for number in range(bench.sizes.rounds):
        with bench.client() as client:
            plans = [_returning(bench, old, room, seat) for room, seat in people]
            client.call("open", plans, CONNECTS_AT_ONCE)
            new = bench.cluster.start_chat_pod(f"chat-back-{number + 1}", None)
            client.call("resume_on_loss", CONNECTS_AT_ONCE)
            killed_at = time.monotonic()
            old.kill()
            ready = client.call("await_resumed", len(plans), BACK_TIMEOUT_S)
        rates.append(len(plans) / (ready[-1] - killed_at))
        slowest.append(ready[int(len(ready) * 0.95)] - killed_at)
        old = new
    bench.cluster.retire(old)
    bench.results |= {
        "reconnects_per_s": middle(rates),
        "reconnect_p95_s": middle(slowest),
        "reconnect_clients": len(people),
    }


def _returning(bench: Bench, pod: Service, room: Room, seat: int) -> Plan:
    """A client two events behind in its channel, that can ask for another seat."""
    user, device = room.seats[seat]
    found = plan(pod, room, seat)
    found.cursors = {room.channel_id: room.head_seq - 2}
    found.token = access_token(bench.cluster.secret_file, user, device)
    return found
