"""The names of everything in Redis: one place to read what is there, and which keys share a slot.

A script touches one key: in a Redis Cluster those with several are refused while their slot moves. Keys that are used
together carry the same hash tag (the part in braces), so that they are on one node.
"""

from __future__ import annotations

from zlib import crc32

PRESENCE_SHARDS = 64
"""Slots that people's presence is spread over: so many that each of a few nodes gets about as much as the others.
Changing it empties presence once: pods beat it full again."""

PRESENCE_MARK = 10**15
"""Above every time in Unix ms: what is below it in a shard's sorted set, and above zero, is people on line."""


class Keys:
    """The keys of one cluster. Everything starts with `{prefix}:{cluster}:`."""

    def __init__(self, prefix: str, cluster: str) -> None:
        self.base = base = f"{prefix}:{cluster}:"
        self.registry = f"{base}{{registry}}"
        """Hash. `pod:` and a pod's name: its entry (JSON). `lease:` and the name: the end of its lease (Unix ms by
        Redis' clock); negative once taken for dead. `departed:` and a run (name~incarnation): its entry; it ended,
        and what it left in Redis is not cleared away yet. `ended:` and a run that may never renew again: when it
        ended (Unix ms). `gone:` and a name that no run may have again: until when (Unix ms). `policy`: the operator's
        (JSON), and `policy_number`, which rises.

        All in one key, so that a script on it works while its slot moves to another node."""
        self.probe = f"{base}probe"
        """String: what API pods write to see whether Redis takes writes."""
        self.owners = f"{base}intents"
        """Set: names of pods that have ever noted an intent, or had routes."""
        self.owner = f"{base}owner"
        """String, leased: whose cluster of this name has these keys (JSON)."""

    def discovery_mark(self, pod: str, run: str) -> str:
        """By this one run of an API pod sees that the registry was emptied: it is where that is."""
        return f"{self.base}{{registry}}:mark:{pod}:{run}"

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
        """Sorted set: people who are online, by when their last lease ends (Unix ms); below zero, by when swept,
        those whose watchers have perhaps not been told that they went offline; and, as the member "", since when the
        shard is kept (PRESENCE_MARK and Unix ms): what is younger may not have everybody yet.

        All in one key, so that a script on it works while its slot moves to another node."""
        return f"{self.base}{{presence:{shard}}}:expiry"

    def presence_user(self, user_id: str) -> str:
        """Hash: device id to the end of its lease; the empty field is last active at (both Unix ms); `*` is
        whom to tell."""
        return f"{self.base}{{presence:{self.presence_shard(user_id)}}}:user:{user_id}"
