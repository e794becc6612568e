"""What every scenario needs, and the sizes of a full and of a short run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench import loadclient, machine
from bench.cluster import SOCKET_PATH, Cluster, Service
from bench.dataset import Dataset, Room, group, pair
from bench.errors import BenchError
from bench.plans import Plan, Window
from bench.remote import Remote

FILES_LEFT = 500
"""Descriptors of a process that are not for load."""

DEVICES_PER_PERSON = 4
ROOM_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    warm_s: float
    window_s: float
    spread_rooms: int
    idle_connections: int
    reconnect_clients: int
    latency_s: int

    def within(self, files: int) -> Sizes:
        """Fewer connections where the system allows a process fewer open files."""
        most = files - FILES_LEFT
        return Sizes(
            self.rounds,
            self.warm_s,
            self.window_s,
            min(self.spread_rooms, max(1, most // ROOM_CONNECTIONS)),
            min(self.idle_connections, most // 2 * 2),
            min(self.reconnect_clients, most),
            self.latency_s,
        )


FULL = Sizes(3, 1.0, 3.0, 100, 8_000, 1_000, 10)
SHORT = Sizes(1, 0.4, 1.2, 20, 1_500, 300, 2)


@dataclass(slots=True)
class Bench:
    cluster: Cluster
    sizes: Sizes
    data: Dataset
    results: dict[str, object] = field(default_factory=dict)
    api: Service | None = None

    def client(self) -> Remote:
        """A new load client, on the client's core."""
        client = Remote(loadclient.main, machine.CLIENT_CORE)
        api = ("127.0.0.1", self.api.port) if self.api else ("", 0)
        client.call("configure", secrets.token_hex(4), "bench", self.cluster.secret, api)
        return client


def dataset(sizes: Sizes) -> Dataset:
    people = ROOM_CONNECTIONS // DEVICES_PER_PERSON
    return Dataset(
        hot=[group(ROOM_CONNECTIONS, 1)],
        cross=[group(ROOM_CONNECTIONS, 1)],
        spread=[group(people, DEVICES_PER_PERSON) for _ in range(sizes.spread_rooms)],
        durable=[pair() for _ in range(64)],
        behind=[pair(messages=59) for _ in range(64)],
        idle=[pair() for _ in range(sizes.idle_connections // 2)],
        reconnect=[group(50, 1, messages=4) for _ in range(sizes.reconnect_clients // 50)],
        bus=[pair() for _ in range(8)],
    )


def all_rooms(data: Dataset) -> list[Room]:
    return [
        *data.hot,
        *data.cross,
        *data.spread,
        *data.durable,
        *data.behind,
        *data.idle,
        *data.reconnect,
        *data.bus,
    ]


def plan(pod: Service, room: Room, seat: int, *, sends: bool = False, sampled: bool = False) -> Plan:
    user, device = room.seats[seat]
    return Plan(
        user_id=user,
        device_id=device,
        host="127.0.0.1",
        port=pod.port,
        path=SOCKET_PATH,
        pod=pod.name,
        incarnation=pod.incarnation,
        channel_id=room.channel_id if sends else "",
        cursors={room.channel_id: room.head_seq},
        sampled=sampled,
    )


def per_cpu_s(count: int, window: Window, pid: int) -> float:
    return count / max(window.cpu_s[pid], 1e-9)


def middle(values: Sequence[float]) -> float:
    if not values:
        raise BenchError("nothing was measured")
    return float(median(values))
