"""One chat pod: its parts, its loops, and how they begin and end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec import Struct

from chatkernel.batching import Coalescer
from chatkernel.bus import BusGap
from chatkernel.errors import ChatError, Close
from chatkernel.gate import Gate
from chatkernel.ids import now_ms
from chatkernel.metrics import rss_kib
from chatkernel.tickets import TicketRedeemer
from chatkernel.wiring import Kernel
from chatpod.connection import Connection, Flusher
from chatpod.drain import Drainer
from chatpod.healer import Healer
from chatpod.hub import Hub
from chatpod.lease import Lease
from chatpod.meter import Meters
from chatpod.opening import Opener
from chatpod.presence_agent import PresenceAgent
from chatpod.rooms import Rooms

log = logging.getLogger(__name__)

REVOKED_AUDIT_USERS = 500


class Stats(Struct):
    """`GET /statz`: what the operator, `chatctl status` and the bench read."""

    pod: str
    incarnation: str
    revision: str
    state: str
    connections: int
    users: int
    channels: int
    messages_in: int
    deliveries_out: int
    bus_out: int
    bus_in: int
    healed: int
    migrated: int
    slow_closed: int
    rss_kib: int
    cpu_s: float
    degraded: list[str]


class Pod:
    """Owns the pod's parts; `start` and `stop` run on the loop that serves the sockets."""

    def __init__(self, kernel: Kernel) -> None:
        settings = kernel.settings
        self.kernel, self.settings, self.live = kernel, settings, kernel.live
        self.flusher = Flusher(asyncio.get_running_loop(), self.live.limits.outbox_max_bytes)
        self.hub = Hub(
            on_behind=lambda room: self.healer.want([room.channel_id]),
            on_room_opened=self._room_opened,
            on_rooms_closed=self._rooms_closed,
            on_unwatched=self._unwatched,
            on_blocks_changed=kernel.blocks.forget,
            appender=kernel.appender,
        )
        kernel.local = self.hub
        self.rooms = Rooms(self.hub, kernel.routes, kernel.store, lambda c: self.healer.want([c]))
        self.opener = Opener(self.hub, self.rooms, kernel.store, self.live)
        self.healer = Healer(self.hub, self.opener, kernel.store, settings.presence.heartbeat_interval_s)
        self.presence = PresenceAgent(
            self.hub, kernel.presence, kernel.routes, kernel.store, settings.presence, kernel.tell, now_ms
        )
        self.drainer = Drainer(self.hub, self.live, now_ms)
        self.meters = Meters(self.live)
        self.gate = Gate(self.live)
        self.redeemer = TicketRedeemer(kernel.secrets, settings.pod, now_ms)
        self.lease = Lease(
            kernel.registry,
            settings,
            now_ms,
            connections=lambda: len(self.hub.clients),
            draining=lambda: self.drainer.draining,
            on_fenced=self._fenced,
            on_forgotten=self._forgotten,
            on_replaced=self._end,
            on_gone=self._gone,
        )
        self.live.follow(self._limits_changed)
        self._devices: Coalescer[str, bool] = Coalescer(self._live)
        self.messages_in = 0
        self.bus_in = 0
        self.slow_closed = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    async def start(self) -> None:
        self.kernel.start()
        try:
            # Before anybody is sent here: nothing that is published from now on is missed.
            await self.kernel.bus.open()
        except ChatError as error:
            log.warning("starting without redis", extra={"error": str(error)})
        for name, work in (
            ("bus", self._read_bus()),
            ("lease", self.lease.run()),
            ("heal", self.healer.run()),
            ("seek", self.healer.seek()),
            ("audit", self.healer.audit()),
            ("people", self.healer.audit_people()),
            ("presence", self.presence.run()),
            ("devices", self._audit_devices()),
            ("routes", self.kernel.routes.keep(self.healer.want_all)),
        ):
            self._spawn(name, work)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._loop_ended)
        self._tasks[name] = task

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # A pod without one of its loops would look healthy and deliver nothing: better a new process.
            log.critical("loop died", extra={"loop": task.get_name()}, exc_info=task.exception())
            self._end()

    def _end(self) -> None:
        """Let the clients go elsewhere, and end the process."""
        for client in list(self.hub.clients.values()):
            client.connection.close(Close.INTERNAL, "the pod ends")
        asyncio.get_running_loop().call_later(0.2, _die)

    async def drain_and_leave(self) -> None:
        """What SIGTERM asks for: move everyone, then take the entry out."""
        self.drainer.drain()
        self.lease.renew_soon()
        await self.drainer.finished()
        # Once the entry is out nobody clears away what is written after: a stream that is gone would be made anew.
        self._stop.set()
        writing = [task for name, task in self._tasks.items() if name in {"bus", "routes"}]
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        await self.lease.leave()

    async def stop(self) -> None:
        self._stop.set()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.kernel.aclose()

    async def device_is_live(self, device_id: str) -> bool:
        """Raises ChatError(STORAGE_UNAVAILABLE)."""
        return await self._devices.call(device_id)

    async def _live(self, device_ids: Sequence[str]) -> list[bool]:
        live = await self.kernel.store.live_devices(list(dict.fromkeys(device_ids)))
        return [device_id in live for device_id in device_ids]

    def _limits_changed(self) -> None:
        self.flusher.limit_bytes = self.live.limits.outbox_max_bytes

    def slow(self, connection: Connection) -> None:
        """A client does not read: it goes, and may come back and sync."""
        self.slow_closed += 1
        connection.close(Close.SLOW_CONSUMER, "outbox full")

    @property
    def ready(self) -> bool:
        return self.lease.registered.is_set() and not self.drainer.draining

    def degraded(self) -> list[str]:
        away = [
            ("registry", self.lease.degraded),
            ("bus", self.kernel.publisher.degraded),
            ("presence", self.presence.degraded),
            ("store", self.healer.degraded),
        ]
        return [name for name, is_degraded in away if is_degraded]

    def stats(self) -> Stats:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        state = "draining" if self.drainer.draining else "ready" if self.ready else "starting"
        return Stats(
            self.settings.pod,
            self.lease.incarnation,
            self.settings.revision,
            state,
            len(self.hub.clients),
            len(self.hub.users),
            len(self.hub.rooms),
            self.messages_in,
            self.hub.deliveries,
            self.kernel.publisher.bus_writes,
            self.bus_in,
            self.healer.healed,
            self.drainer.migrated,
            self.slow_closed,
            rss_kib(),
            round(usage.ru_utime + usage.ru_stime, 3),
            self.degraded(),
        )

    def _room_opened(self, channel_id: str) -> None:
        self.rooms.opened_by_event(channel_id)

    def _rooms_closed(self, channel_ids: list[str]) -> None:
        self.rooms.closed(channel_ids)

    def _unwatched(self, user_ids: list[str]) -> None:
        self.rooms.unwatched(user_ids)

    async def _read_bus(self) -> None:
        async for batch in self.kernel.bus.read(self._stop):
            if isinstance(batch, BusGap):
                log.warning("bus gap: comparing all channels with the store")
                self.healer.want_all()
                continue
            self.bus_in += 1
            for envelope in batch:
                try:
                    self.hub.take(envelope)
                except Exception:
                    log.exception("envelope failed", extra={"kind": type(envelope).__name__})

    async def _audit_devices(self) -> None:
        """Close the sockets of devices whose revocation the bus did not bring."""
        while True:
            await asyncio.sleep(self.settings.presence.heartbeat_interval_s)
            clients = list(self.hub.clients.values())
            for start in range(0, len(clients), REVOKED_AUDIT_USERS):
                part = clients[start : start + REVOKED_AUDIT_USERS]
                try:
                    live = await self.kernel.store.live_devices([client.device_id for client in part])
                except ChatError:
                    break
                for client in part:
                    if client.device_id not in live:
                        client.connection.close(Close.DEVICE_REVOKED, "device revoked")

    def _gone(self) -> None:
        """Nobody will send clients here again. Those that are moving already have until the drain is over."""
        self._spawn("end", self._end_drained())

    async def _end_drained(self) -> None:
        if self.drainer.draining:
            await self.drainer.finished()
        self._end()

    def _fenced(self) -> None:
        for client in list(self.hub.clients.values()):
            client.connection.close(Close.LEASE_LOST, "the pod lost its lease")
            if self.hub.deregister(client):
                self.rooms.user_gone(client.user_id)
        self.healer.want_all()

    async def _forgotten(self) -> None:
        """The registry does not know this pod (Redis was emptied, or it is the first time): write everything anew."""
        await self.kernel.routes.reassert()
        await self.presence.renew_all()
        self.healer.want_all()


def _die() -> None:
    os._exit(70)
