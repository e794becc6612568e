"""Intents: the channels a pod may have appended to without having told the other pods yet.

If the pod dies in between, the reaper reads them here and has those channels looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from chatkernel.keys import Keys
from chatkernel.redis_client import execute


class Intents:
    """Each method is one round trip and raises ChatError(REDIS_UNAVAILABLE) when Redis does not answer."""

    def __init__(self, redis: Redis, keys: Keys, pod: str) -> None:
        self._redis, self._keys, self._pod = redis, keys, pod

    async def begin(self, channel_ids: Sequence[str]) -> None:
        """Note channels. A set, not a count: noting one twice is the same as once."""
        if channel_ids:
            await execute(
                self._redis,
                [
                    ("SADD", self._keys.intents(self._pod), *channel_ids),
                    ("SADD", self._keys.intent_owners, self._pod),
                ],
            )

    async def done(self, channel_ids: Sequence[str]) -> None:
        await self.clear(self._pod, channel_ids)

    async def take(self, pod: str) -> list[str]:
        """What a pod has noted. It stays noted until `clear`, so that a reaper that dies takes nothing with
        it."""
        (found,) = await execute(self._redis, [("SMEMBERS", self._keys.intents(pod))])
        return sorted(channel.decode() for channel in found)

    async def clear(self, pod: str, channel_ids: Sequence[str]) -> None:
        """Those channels of that pod have been looked at."""
        if channel_ids:
            await execute(self._redis, [("SREM", self._keys.intents(pod), *channel_ids)])

    async def owners(self) -> list[str]:
        """Pods of any kind that have ever noted an intent and are not forgotten."""
        (found,) = await execute(self._redis, [("SMEMBERS", self._keys.intent_owners)])
        return sorted(pod.decode() for pod in found)

    async def forget(self, pod: str) -> None:
        """Strike a pod off the owners; it is one again as soon as it notes something."""
        await execute(self._redis, [("SREM", self._keys.intent_owners, pod)])
