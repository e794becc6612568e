"""A chat pod's figures for Prometheus."""

from __future__ import annotations

from chatkernel.metrics import Metric, counter, gauge, of_process, parts_away, settings_refused
from chatpod.pod import Pod


def metrics(pod: Pod) -> list[Metric]:
    hub = pod.hub
    return [
        gauge("chat_ready", "1: it may be given clients", pod.ready),
        gauge("chat_draining", "1: it moves its clients away", pod.drainer.draining),
        gauge("chat_connections", "Clients that have said hello", len(hub.clients)),
        gauge("chat_capacity", "Connections that discovery gives it at most", pod.settings.capacity),
        gauge("chat_users", "People with a connection", len(hub.users)),
        gauge("chat_rooms", "Channels that somebody has live", len(hub.rooms)),
        counter("chat_sends_total", "Messages that clients sent by a socket", pod.messages_in),
        counter("chat_deliveries_total", "Events written to sockets", hub.deliveries),
        counter("chat_bus_writes_total", "Batches written to pods' streams", pod.kernel.publisher.bus_writes),
        counter("chat_bus_batches_total", "Batches read from its stream", pod.bus_in),
        counter("chat_healed_total", "Channels brought up to date from the store", pod.healer.healed),
        counter("chat_migrated_total", "Clients told to move", pod.drainer.migrated),
        counter("chat_slow_closed_total", "Clients closed because they did not read", pod.slow_closed),
        settings_refused(pod.kernel.live_file),
        parts_away(pod.degraded()),
        *of_process(),
    ]
