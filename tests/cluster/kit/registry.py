"""The registry as it stands in Redis, for who wants to spoil it: raw fields, by no code of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis

from cluster.kit.chat import Chat

Entry = dict[str, Any]

POD, LEASE, POLICY, NUMBER = "pod:", "lease:", "policy", "policy_number"


class RawRegistry:
    """Of one cluster."""

    def __init__(self, redis: Any, key: str) -> None:
        self._redis, self._key = redis, key

    async def pods(self) -> dict[str, Entry]:
        """Every entry, by name, whatever its lease."""
        fields = await self._redis.hgetall(self._key)
        named = {name.removeprefix(POD): told for name, told in fields.items() if name.startswith(POD)}
        return {name: json.loads(told) for name, told in named.items()}

    async def names(self) -> set[str]:
        """Of all entries, those that nobody could read included."""
        return {name.removeprefix(POD) for name in await self._redis.hkeys(self._key) if name.startswith(POD)}

    async def policy(self) -> Entry:
        return dict(json.loads(await self._redis.hget(self._key, POLICY) or "{}"))

    async def put(self, entry: Entry, lease_s: float) -> None:
        """As if a pod had written it; a lease below zero is over."""
        until = int((await self._redis.time())[0] * 1000 + lease_s * 1000)
        name = entry["name"]
        fields = {f"{POD}{name}": json.dumps(entry), f"{LEASE}{name}": until}
        await self._redis.hset(self._key, mapping=fields)

    async def put_text(self, name: str, text: str) -> None:
        """What no pod would write."""
        await self._redis.hset(self._key, f"{POD}{name}", text)

    async def put_policy(self, policy: Entry) -> None:
        """As if the operator had just written it."""
        number = int(await self._redis.hget(self._key, NUMBER) or 0) + 1
        await self._redis.hset(self._key, mapping={POLICY: json.dumps(policy), NUMBER: number})

    async def delete(self, name: str) -> None:
        await self._redis.hdel(self._key, f"{POD}{name}", f"{LEASE}{name}")

    async def empty(self) -> None:
        """All of Redis."""
        await self._redis.flushall()


@asynccontextmanager
async def registry_of(chat: Chat) -> AsyncIterator[RawRegistry]:
    """In the development Redis of a cluster that is up."""
    secret = chat.kubectl.get("secret", f"{chat.name}-development")["data"]["redis-url"]
    url = urlsplit(base64.b64decode(secret).decode())
    address = chat.kubectl.get("service", f"{chat.name}-redis")["spec"]["clusterIP"]
    here = urlunsplit(url._replace(netloc=f":{url.password}@{address}:{url.port}"))
    redis: Any = Redis.from_url(here, decode_responses=True)
    try:
        (key,) = [name async for name in redis.scan_iter(match="*{registry}")]
        yield RawRegistry(redis, key)
    finally:
        await redis.aclose()
