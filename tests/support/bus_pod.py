"""What other pods see of one pod: its lease, its routes, its intents, and what comes over the bus for it."""

from __future__ import annotations

import msgspec

from chatkernel.bus import Bus, Envelope
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import PodEntry, PodState, Registry, RenewResult
from chatkernel.routes import Routes

_decoder = msgspec.msgpack.Decoder(list[Envelope])


class BusPod:
    """A chat pod without its sockets."""

    def __init__(
        self, redis: Redis, keys: Keys, name: str, incarnation: str = "1", started_at: int = 1
    ) -> None:
        self.name, self.redis, self.keys = name, redis, keys
        self.entry = PodEntry(
            name, incarnation, f"ws://{name}", "local", "r1", PodState.READY, 0, 100, started_at
        )
        self.registry, self.routes = Registry(redis, keys), Routes(redis, keys, name)
        self.bus, self.intents = Bus(redis, keys, self.routes, name), Intents(redis, keys, name)

    async def start(self, *channels: str, lease_s: float = 60.0) -> RenewResult:
        await self.bus.open()
        await self.routes.add(channels=channels)
        return await self.renew(lease_s)

    async def renew(self, lease_s: float) -> RenewResult:
        return await self.registry.renew(self.entry, lease_s)

    async def received(self) -> list[Envelope]:
        """All that is in its stream."""
        (entries,) = await execute(self.redis, [("XRANGE", self.keys.stream(self.name), "-", "+")])
        return [envelope for _, fields in entries if fields[1] for envelope in _decoder.decode(fields[1])]
