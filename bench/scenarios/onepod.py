"""What one pod does besides fan-out: durable 1:1 messages, sync, connecting, and holding idle connections."""

from __future__ import annotations

import json

from bench import machine
from bench.dataset import Room
from bench.errors import BenchError
from bench.plans import Window
from bench.scenarios.context import Bench, middle, per_cpu_s, plan

EVENTS_PER_PAGE = 50
CONNECTS_AT_ONCE = 64
CONNECT_PARTS = 4
SETTLE_S = 3.0


def durable_and_sync(bench: Bench) -> None:
    """64 pairs with one message in flight each; and devices that come back 50 events behind over and over."""
    sizes, pairs, behind = bench.sizes, bench.data.durable, bench.data.behind
    pod = bench.cluster.start_chat_pod("chat-durable")
    with bench.client() as client:
        plans = [plan(pod, room, n, sends=n == 0) for room in pairs for n in (0, 1)]
        plans += [plan(pod, room, 0, sends=True) for room in behind]
        client.call("open", plans, CONNECTS_AT_ONCE)
        sending = [(2 * n, 1) for n in range(len(pairs))]
        asking = [(2 * len(pairs) + n, 1) for n in range(len(behind))]
        client.call(
            "send_instead", {index: _ask(room) for (index, _), room in zip(asking, behind, strict=True)}
        )
        messages: list[Window] = []
        pages: list[Window] = []
        for _ in range(sizes.rounds):
            messages.append(client.call("closed_loop", sending, sizes.warm_s, sizes.window_s, [pod.pid]))
            pages.append(client.call("closed_loop", asking, sizes.warm_s / 2, sizes.window_s, [pod.pid]))
    bench.cluster.retire(pod)
    for window in messages:
        if window.events < 1.9 * window.acks:
            raise BenchError(f"{window.acks} acked messages, but {window.events} deliveries to two people")
    for window in pages:
        if abs(window.events - EVENTS_PER_PAGE * window.acks) > EVENTS_PER_PAGE * len(asking):
            raise BenchError(f"{window.acks} syncs brought {window.events} events, not 50 each")
    bench.results |= {
        "durable_messages_per_cpu_s": middle([per_cpu_s(w.acks, w, pod.pid) for w in messages]),
        "durable_messages_per_s": middle([w.acks / w.wall_s for w in messages]),
        "durable_cpu_share": middle([w.cpu_s[pod.pid] / w.wall_s for w in messages]),
        "sync_pages_per_cpu_s": middle([per_cpu_s(w.acks, w, pod.pid) for w in pages]),
        "sync_pages_per_s": middle([w.acks / w.wall_s for w in pages]),
    }


def _ask(room: Room) -> str:
    cursors = {room.channel_id: room.head_seq - EVENTS_PER_PAGE}
    return json.dumps({"type": "sync", "id": "s", "cursors": cursors})


def idle_connections(bench: Bench) -> None:
    """Thousands of log-ins by ticket, then only heartbeats: CPU per log-in, memory per connection."""
    rooms = bench.data.idle
    pod = bench.cluster.start_chat_pod("chat-idle")
    with bench.client() as client:
        plans = [plan(pod, room, n) for n in (0, 1) for room in rooms]
        before_kib = machine.rss_kib(pod.pid)
        part = -(-len(plans) // CONNECT_PARTS)
        opened = [
            client.call("open", plans[start : start + part], CONNECTS_AT_ONCE, [pod.pid])
            for start in range(0, len(plans), part)
        ]
        connected_kib = machine.rss_kib(pod.pid)
        rest = client.call("rest", SETTLE_S, [pod.pid])
        settled_kib = machine.rss_kib(pod.pid)
    bench.cluster.retire(pod)
    rates = [per_cpu_s(len(plans[n * part : (n + 1) * part]), w, pod.pid) for n, w in enumerate(opened)]
    bench.results |= {
        "idle_kib_per_connection": (max(settled_kib, connected_kib) - before_kib) / len(plans),
        "idle_connections": len(plans),
        "idle_cpu_share": rest.cpu_s[pod.pid] / rest.wall_s,
        "connects_per_cpu_s": middle(rates),
        "connects_per_s": len(plans) / sum(w.wall_s for w in opened),
    }
