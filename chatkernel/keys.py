"""The names of everything in Redis: one place to read what is there, and which keys share a slot.

Keys that one script touches carry the same hash tag (the part in braces), so that Redis Cluster keeps them
together.
"""

from __future__ import annotations

from zlib import crc32

PRESENCE_SHARDS = 64
"""Slots that people's presence is spread over: so many that each of a few nodes gets about as much as the others.
Changing it empties presence once: pods beat it full again."""


class Keys:
    """The keys of one cluster. Everything starts with `{prefix}:{cluster}:`."""

    def __init__(self, prefix: str, cluster: str) -> None:
        self.base = base = f"{prefix}:{cluster}:"
        self.pods = f"{base}{{registry}}:pods"
        """Hash: pod name to its entry (JSON)."""
        self.leases = f"{base}{{registry}}:leases"
        """Hash: pod name to the end of its lease (Unix ms by Redis' clock); negative once taken for dead."""
        self.departed = f"{base}{{registry}}:departed"
        """Hash: run (name~incarnation) to its entry: ended, and what it left in Redis not cleared away
        yet."""
        self.ended = f"{base}{{registry}}:ended"
        """Sorted set: runs that may never renew again, by when they ended (Unix ms)."""
        self.policy = f"{base}{{registry}}:policy"
        """String: the operator's policy (JSON)."""
        self.probe = f"{base}probe"
        """String: what API pods write to see whether Redis takes writes."""
        self.intent_owners = f"{base}intents"
        """Set: names of pods that have ever noted an intent."""
        self.owner = f"{base}owner"
        """String, leased: whose cluster of this name has these keys (JSON)."""

    def route(self, route: str) -> str:
        """Set of pod names that want what is addressed to a route (`c:`, `u:` or `w:` and an id)."""
        return f"{self.base}route:{route}"

    def pod_routes(self, pod: str) -> str:
        """Set of the routes that a pod is in: what to clear away when it dies."""
        return f"{self.base}{{pod:{pod}}}:routes"

    def stream(self, pod: str) -> str:
        """The pod's bus stream."""
        return f"{self.base}{{pod:{pod}}}:stream"

    def intents(self, pod: str) -> str:
        """Set of channels that the pod may have appended to without having published yet."""
        return f"{self.base}{{pod:{pod}}}:intents"

    def limit(self, name: str) -> str:
        """The theoretical arrival time of a rate limit."""
        return f"{self.base}limit:{name}"

    def presence_shard(self, user_id: str) -> int:
        return crc32(user_id.encode()) % PRESENCE_SHARDS

    def presence_expiry(self, shard: int) -> str:
        """Sorted set: people who are online, by when their last lease ends (Unix ms)."""
        return f"{self.base}{{presence:{shard}}}:expiry"

    def presence_unsettled(self, shard: int) -> str:
        """Sorted set: people who went offline and whose watchers have perhaps not been told, by when
        swept."""
        return f"{self.base}{{presence:{shard}}}:unsettled"

    def presence_mark(self, shard: int) -> str:
        """Since when the shard is kept (Unix ms): what is younger may not have everybody yet."""
        return f"{self.base}{{presence:{shard}}}:mark"

    def presence_users(self, shard: int) -> str:
        """What the keys of `presence_user` in a shard begin with."""
        return f"{self.base}{{presence:{shard}}}:user:"

    def presence_user(self, user_id: str) -> str:
        """Hash: device id to the end of its lease; the empty field is last active at (both Unix ms); `*` is
        whom to tell."""
        return self.presence_users(self.presence_shard(user_id)) + user_id
