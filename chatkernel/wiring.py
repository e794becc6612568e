"""Puts the kernel's parts together for a service that writes messages: chat pods and API pods alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chatkernel.appender import Appender
from chatkernel.blocks import Blocks
from chatkernel.bus import Bus, EventEnvelope, Post
from chatkernel.channels import Channels
from chatkernel.ids import now_ms
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.live import Live, LiveFile
from chatkernel.messaging import Messaging
from chatkernel.presence import PresenceStore
from chatkernel.protocol import MEMBERSHIP_KINDS, Event, encode_json
from chatkernel.publisher import Publisher
from chatkernel.ratelimit import RateLimiter
from chatkernel.receipts import Receipts
from chatkernel.redis_client import Redis, connect
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from chatkernel.settings import SecretFile, ServiceSettings
from chatkernel.storage.open import open_store
from chatkernel.storage.store import Store


class Local(Protocol):
    """Who is told first, in this process: a chat pod's hub. API pods have nobody."""

    def stored(self, events: Sequence[Event], frames: Sequence[bytes]) -> None: ...

    def told(self, posts: Sequence[Post]) -> None: ...


class Kernel:
    """The parts, started and stopped in the right order."""

    def __init__(self, settings: ServiceSettings, secrets: SecretFile, store: Store, redis: Redis) -> None:
        self.settings, self.secrets, self.store, self.redis = settings, secrets, store, redis
        self.live = live = Live(settings.live)
        self.live_file = LiveFile(Path(settings.live_file), live) if settings.live_file else None
        self._following: asyncio.Task[None] | None = None
        self.local: Local | None = None
        self.keys = Keys(settings.key_prefix, settings.cluster)
        self.registry = Registry(redis, self.keys)
        self.routes = Routes(redis, self.keys, settings.pod)
        self.intents = Intents(redis, self.keys, settings.pod)
        self.presence = PresenceStore(redis, self.keys, settings.presence)
        self.limiter = RateLimiter(redis, self.keys)
        self.bus = Bus(redis, self.keys, self.routes, settings.pod)
        self.publisher = Publisher(self.bus, self.intents)
        self.appender = Appender(
            store,
            store,
            now_ms,
            before_insert=self.publisher.begin,
            on_stored=self._stored,
        )
        live.follow(lambda: self.appender.wait_for_at_most(live.limits.waiting_max_bytes))
        self.blocks = Blocks(store, time.monotonic)
        self.receipts = Receipts(
            store, self.blocks, settings.receipt_interval_s, settings.receipt_members_max, self.tell
        )
        self.messaging = Messaging(
            event_log=store,
            conversations=store,
            appender=self.appender,
            receipts=self.receipts,
            blocks=self.blocks,
            presence=self.presence,
            tell=self.tell,
            live=live,
            small_group_max=settings.presence.small_group_max,
        )
        self.channels = Channels(
            conversations=store,
            accounts=store,
            people=store,
            appender=self.appender,
            live=live,
            region=settings.region,
            retention_s=settings.retention_s,
        )

    @classmethod
    async def build(cls, settings: ServiceSettings, secrets: SecretFile) -> Kernel:
        """Raises ChatError when the store cannot be opened; Redis may be away."""
        return cls(settings, secrets, await open_store(settings.store_url), connect(settings.redis_url))

    def start(self) -> None:
        self.publisher.start()
        if self.live_file is not None:
            self._following = asyncio.create_task(self.live_file.run(), name="live-settings")

    async def aclose(self) -> None:
        """Appends and watermarks that were taken get their outcome; then connections close."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))
        await self.appender.aclose()
        await self.receipts.aclose()
        await self.publisher.aclose()
        await self.routes.aclose()
        await self.store.aclose()
        await self.redis.aclose()

    def tell(self, posts: Sequence[Post]) -> None:
        """Deliver here and send to the other pods."""
        if self.local is not None:
            self.local.told(posts)
        self.publisher.publish(posts)

    def _stored(self, events: list[Event]) -> None:
        frames = [encode_json(event) for event in events]
        if self.local is not None:
            self.local.stored(events, frames)
        self.publisher.publish([post_of(event, frame) for event, frame in zip(events, frames, strict=True)])


def post_of(event: Event, frame: bytes) -> Post:
    """An event to the pods of its channel, and for a change of membership to the pods of whom it concerns."""
    membership = event.kind in MEMBERSHIP_KINDS
    envelope = EventEnvelope(event.channel_id, event.seq, frame, membership)
    return Post(envelope, (event.channel_id,), tuple(event.users or ()) if membership else ())
