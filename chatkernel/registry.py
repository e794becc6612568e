"""The registry of chat pods: leased entries that pods write themselves, and the operator's policy beside
them.

All times are by Redis' clock. Everything here can be lost: pods notice at their next renewal and register
again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from chatkernel.ids import now_ms
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, Script, execute, run_scripts

ENDED_KEPT_S = 3600.0
"""How long a run that was removed or replaced is refused; later its entry is simply missing."""

GONE_KEPT_S = 86_400.0
"""How long a name that was removed for good is refused. Whoever comes back later is found, for the operator knows no
such pod, and removed again."""

NEWER_THAN_ALL = 1 << 62
"""Later than any time in Unix ms at which a process was started."""

POLICY_REMEMBERED_S = 60.0
"""When Redis was emptied, or came back with old data, the policy last seen stands for this long, until the operator
writes it again."""


class PodState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class PodEntry(Struct, frozen=True):
    """One run of a chat pod. `incarnation` names the run; `started_at` and `lease_until` are Unix ms, the
    latter by Redis' clock and set by the registry. `capacity` is the connections that discovery gives it at
    most. `url` is for clients; `address` is the same socket as the cluster's own services reach it, where that is
    another way."""

    name: str
    incarnation: str
    url: str
    region: str
    revision: str
    state: PodState
    connections: int
    capacity: int
    started_at: int
    lease_until: int = 0
    address: str = ""


class Policy(Struct, frozen=True):
    """What the operator wants of discovery. `serving_revision`: seats only there ("" is any). `excluded`:
    pods that get no more seats, whatever they say of themselves."""

    serving_revision: str = ""
    excluded: list[str] = []


class Snapshot(Struct, frozen=True):
    """The registry at one moment: `entries` within their lease, `expired` beyond it and not removed yet. Of `unread`
    nobody understands more than the names."""

    entries: list[PodEntry]
    expired: list[PodEntry]
    policy: Policy
    redis_now_ms: int
    unread: list[str] = []


class RenewResult(NamedTuple):
    """`ok`: the run holds its lease. Not ok and `was_missing`: it was declared over; a pod that wants to go on
    closes its sockets and registers as another incarnation. Not ok and not `was_missing`: a newer run has the
    name, or, if it is `gone`, no run may have it any more; and this one has to end.

    `was_missing`: Redis has not, or not surely, what this run wrote before (its first renewal; Redis was
    emptied; its lease ran out and it was taken for dead): routes, intents and presence are to be written
    anew, and heads compared with the store.
    """

    ok: bool
    was_missing: bool
    gone: bool = False


_RENEW = Script("registry_renew")
_REMOVE = Script("registry_remove")
_CONDEMN = Script("registry_condemn")
_SNAPSHOT = Script("registry_snapshot")

T = TypeVar("T")

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()
_entry_decoder = msgspec.json.Decoder(PodEntry)
_policy_decoder = msgspec.json.Decoder(Policy)


class Registry:
    """Each method is one round trip and raises ChatError(REDIS_UNAVAILABLE) when Redis does not answer."""

    def __init__(self, redis: Redis, keys: Keys, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._keys, self._monotonic = redis, keys, monotonic
        self._key = (keys.registry,)
        self._policy_seen, self._policy_number = Policy(), 0
        self._policy_seen_at = -POLICY_REMEMBERED_S
        self._not_understood: set[tuple[str, str]] = set()
        """What somebody else has written where ours is to be: its kind and name. Each is told once."""

    async def renew(self, entry: PodEntry, lease_s: float, *, only: bool = False) -> RenewResult:
        """Write the entry with a lease from now on. An older run of the same name is over by this; `only`: so is any
        other, for no other process ever has the name, and an entry that says so is forged."""
        args = (
            entry.name,
            entry.incarnation,
            NEWER_THAN_ALL if only else entry.started_at,
            int(lease_s * 1000),
            _encoder.encode(entry),
        )
        ((ok, missing, gone),) = await run_scripts(self._redis, [_RENEW.call(self._key, args)])
        return RenewResult(bool(ok), bool(missing), bool(gone))

    async def remove(
        self,
        name: str,
        incarnation: str | None = None,
        *,
        expired_only: bool = False,
        for_good: bool = False,
    ) -> bool:
        """Take a pod out, if it is still that run (None: whichever). The run cannot renew any more; what it left is
        cleared away by the reaper. Whether there was such an entry.

        `expired_only`: only beyond its lease, and if it comes back it is told `was_missing`: it may have been cut
        off from Redis while its clients were connected. `for_good`: whether or not there is an entry, no run of this
        name gets in again. It is for whoever never uses a name twice, of a pod that is gone: should it come back all
        the same (its node was only cut off), it ends itself."""
        gone_ms = int(GONE_KEPT_S * 1000) if for_good else 0
        args = (name, incarnation or "", int(ENDED_KEPT_S * 1000), int(expired_only), gone_ms)
        (removed,) = await run_scripts(self._redis, [_REMOVE.call(self._key, args)])
        return bool(removed)

    async def snapshot(self) -> Snapshot:
        """Entries that nobody understands are named only, and logged once."""
        ((now, fields),) = await run_scripts(self._redis, [_SNAPSHOT.call(self._key, ())])
        found = dict(_pairs(fields))
        entries: list[PodEntry] = []
        expired: list[PodEntry] = []
        unread: list[str] = []
        for name, data in _named(b"pod:", found):
            entry = self._read("registry entry", name, data, _entry_decoder)
            if entry is None:
                unread.append(name.decode(errors="replace"))
            else:
                until = _number(found.get(b"lease:" + name, b""))
                entry = msgspec.structs.replace(entry, lease_until=until)
                (entries if until > now else expired).append(entry)
        return Snapshot(entries, expired, self._policy_of(found), now, unread)

    async def set_policy(self, policy: Policy) -> None:
        """Numbered, so that one that comes back with old data is not taken for a newer one."""
        self._policy_number = max(now_ms(), self._policy_number + 1)
        fields = (b"policy", _encoder.encode(policy), b"policy_number", self._policy_number)
        await execute(self._redis, [("HSET", self._keys.registry, *fields)])

    async def policy(self) -> Policy:
        """The policy as it stands in Redis: empty when it is not there, or nobody understands it."""
        ((data, number),) = await execute(
            self._redis, [("HMGET", self._keys.registry, "policy", "policy_number")]
        )
        self._policy_number = max(self._policy_number, _number(number or b""))
        return self._read_policy(data) or Policy()

    async def condemn(self, entry: PodEntry) -> bool:
        """Take a run whose lease is over for dead, so that it may be cleared away. Whether it is over and not
        yet cleared away; False when it has renewed meanwhile. If it comes back it is told `was_missing`."""
        (over,) = await run_scripts(self._redis, [_CONDEMN.call(self._key, (entry.name, entry.incarnation))])
        return bool(over)

    async def departed(self) -> list[PodEntry]:
        """Runs that are over (condemned, removed or replaced) and not cleared away."""
        (fields,) = await execute(self._redis, [("HGETALL", self._keys.registry)])
        found = _named(b"departed:", dict(_pairs(fields)))
        read = [self._read("departed run", name, data, _entry_decoder) for name, data in found]
        return [entry for entry in read if entry is not None]

    async def bury(self, entry: PodEntry) -> None:
        """The run has been cleared away."""
        run = f"departed:{entry.name}~{entry.incarnation}"
        await execute(self._redis, [("HDEL", self._keys.registry, run)])

    def _policy_of(self, found: dict[bytes, bytes]) -> Policy:
        policy, number = self._read_policy(found.get(b"policy")), _number(found.get(b"policy_number", b""))
        recent = self._monotonic() - self._policy_seen_at < POLICY_REMEMBERED_S
        if recent and (policy is None or number < self._policy_number):
            # Redis was emptied, or has old data, or it was written over: a pod of an outgoing revision must not get
            # seats until the operator has looked.
            return self._policy_seen
        if policy is None:
            return Policy()
        self._policy_seen, self._policy_number, self._policy_seen_at = policy, number, self._monotonic()
        return policy

    def _read_policy(self, data: bytes | None) -> Policy | None:
        return self._read("policy", self._keys.registry, data, _policy_decoder) if data else None

    def _read(self, what: str, name: bytes | str, data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
        """None, and told once as long as it stands there, when it is none of ours."""
        key = (what, name if isinstance(name, str) else name.decode(errors="replace"))
        try:
            read = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if key not in self._not_understood:
                self._not_understood.add(key)
                log.error(  # noqa: TRY400 - where it was read is of no interest
                    "not understood", extra={"what": what, "of": key[1], "error": str(error)}
                )
            return None
        self._not_understood.discard(key)
        return read


def _number(text: bytes) -> int:
    """What is no number is 0: a lease that is none has ended. That of a condemned run is negative."""
    try:
        return abs(int(text))
    except ValueError:
        return 0


def _named(prefix: bytes, found: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(field.removeprefix(prefix), value) for field, value in found.items() if field.startswith(prefix)]


def _pairs(flat: list[Any]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
