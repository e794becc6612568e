"""Redis Cluster: which node has which slot, a link to each node, and following the slots when they move.

The commands of one call go to their nodes at the same time, those of one node together and in order, and the
replies come back in the order of the commands. Across nodes there is no order: a caller that needs one makes two
calls. What a node that is away was to answer are errors in the places of its commands, and of no others.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from chatkernel.addresses import Address
from chatkernel.redis_link import (
    Argument,
    AskError,
    ClusterDownError,
    Command,
    Link,
    MovedError,
    TryAgainError,
    is_of_the_server,
)

SLOTS = 16_384

AGAIN_MAX_S = 1.0
"""For so long a command is sent again that did not run because its slot moves, or its keys do."""
AGAIN_PAUSE_S = 0.025
"""Before each time, except the first after it was told where to go."""

LOOK_WAIT_S = 0.5
"""How long all nodes are waited for that were asked where the slots are."""
LOOK_TIMEOUT_S = 2.0
LOOK_PAUSE_S = 0.1
"""Between two looks: while a node is dead every failed call asks for one."""
LOOK_NODES_MAX = 8
"""Nodes asked at once."""

CALL_LEFT_MIN_S = 0.05


class _Send(NamedTuple):
    """A command, by its position in the call, on its way to one node."""

    position: int
    asking: bool


class Shards:
    """Owns the links and the table of slots."""

    def __init__(
        self, seeds: Sequence[Address], open_at: Callable[[Address], Awaitable[AbstractConnection]]
    ) -> None:
        self._seeds, self._open_at = tuple(seeds), open_at
        self._owners: list[Address] = []
        """By slot; empty before the first look. A slot without an owner is taken to be at any node, which says so."""
        self._primaries: list[Address] = []
        self._nodes: set[Address] = set()
        """Primaries and replicas, as of the last look."""
        self._links: dict[Address, Link] = {}
        self._waiting_links: dict[Address, Link] = {}
        self._other_losses = 0
        self._node_failed_at: dict[Address, float] = {}
        self._slot_failed_at: dict[int, float] = {}
        self._unknown_at = -math.inf
        """The last time that nobody said where the slots are."""
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -LOOK_PAUSE_S

    async def call(self, commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
        """As `Link.call`, but what a node does not answer is an error (RedisError or OSError) among the replies. A
        command without a key goes to every primary: the first one's reply, unless another refuses."""
        if not self._owners:
            await self._first_look()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        replies: list[Any] = [None] * len(commands)
        sends, first = self._first_sends(commands), True
        while True:
            left_s = max(CALL_LEFT_MIN_S, began_s + timeout_s - clock())
            await self._send(commands, sends, replies, left_s, waiting=waiting)
            errors = [at for at, reply in enumerate(replies) if isinstance(reply, Exception)]
            again = [at for at in errors if _did_not_run(replies[at])]
            if not again or clock() - began_s > AGAIN_MAX_S:
                break
            if not first or any(isinstance(replies[at], TryAgainError) for at in again):
                await asyncio.sleep(AGAIN_PAUSE_S)
            sends, first = self._again(commands, again, replies), False
        for at in errors:
            self._note(commands[at], replies[at])
        return replies

    def failed_at(self, key: str) -> float:
        """When the node of a key last did not answer, refused, or broke the connection off (monotonic, seconds); or
        the key's slot alone; or, if nobody said where the slots are, all of them."""
        if not self._owners:
            return self._unknown_at
        slot = slot_of(key)
        at_node = self._failed_at_node(self._owners[slot])
        return max(at_node, self._slot_failed_at.get(slot, at_node), self._unknown_at)

    @property
    def losses(self) -> int:
        return self._other_losses + sum(link.losses for link in self._links.values())

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for link in (*self._links.values(), *self._waiting_links.values()):
            await link.aclose()

    # -- sending

    def _first_sends(self, commands: Sequence[Command]) -> dict[Address, list[_Send]]:
        sends: dict[Address, list[_Send]] = defaultdict(list)
        for index, command in enumerate(commands):
            key = _key_of(command)
            owners: Iterable[Address] = self._primaries if key is None else (self._owners[slot_of(key)],)
            for owner in owners:
                sends[owner].append(_Send(index, False))
        return sends

    async def _send(
        self,
        commands: Sequence[Command],
        sends: dict[Address, list[_Send]],
        replies: list[Any],
        timeout_s: float,
        *,
        waiting: bool,
    ) -> None:
        calls = [
            self._replies(address, _packed(commands, some), timeout_s, waiting=waiting)
            for address, some in sends.items()
        ]
        # The usual call has one node: that needs no task.
        found = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        for some, result in zip(sends.values(), found, strict=True):
            _put(replies, some, result)

    async def _replies(
        self, address: Address, packed: Sequence[Command], timeout_s: float, *, waiting: bool
    ) -> Sequence[Any]:
        try:
            # Looked up only now: until a moment ago a link that nobody used may have been closed.
            return await self._link(address, waiting=waiting).call(packed, timeout_s)
        except (RedisError, OSError) as error:
            self._node_failed_at[address] = time.monotonic()
            return [error] * len(packed)

    def _note(self, command: Command, error: Exception) -> None:
        """A command has failed for good."""
        if not isinstance(error, ResponseError) or isinstance(error, MovedError | ClusterDownError):
            # The node may be dead, and another has its slots or soon will.
            self._look_soon()
        key = _key_of(command)
        if key is not None and isinstance(error, ResponseError):
            slot = slot_of(key)
            if is_of_the_server(error):
                self._node_failed_at[self._owners[slot]] = time.monotonic()
            elif _did_not_run(error):
                self._slot_failed_at[slot] = time.monotonic()

    def _again(
        self, commands: Sequence[Command], indexes: Sequence[int], replies: list[Any]
    ) -> dict[Address, list[_Send]]:
        """Where to send what did not run."""
        sends: dict[Address, list[_Send]] = defaultdict(list)
        for index in indexes:
            reply, replies[index] = replies[index], None
            key = _key_of(commands[index])
            if isinstance(reply, TryAgainError) or key is None:
                owner = self._primaries[0] if key is None else self._owners[slot_of(key)]
                sends[owner].append(_Send(index, False))
                continue
            slot, address = self._redirected(reply)
            if isinstance(reply, MovedError):
                self._doubt(slot, self._failed_at_node(self._owners[slot]))
                self._owners[slot] = address
                self._look_soon()
            sends[address].append(_Send(index, isinstance(reply, AskError)))
        return sends

    def _redirected(self, reply: ResponseError) -> tuple[int, Address]:
        """Slot and node of `MOVED 3999 127.0.0.1:6381`."""
        _, slot, where = str(reply).split(" ")[:3]
        host, _, port = where.rpartition(":")
        return int(slot), Address(_host_of(host, self._owners[int(slot)]), int(port))

    def _link(self, address: Address, *, waiting: bool = False) -> Link:
        links = self._waiting_links if waiting else self._links
        link = links.get(address)
        if link is None:
            link = links[address] = Link(lambda: self._open_at(address))
        return link

    # -- where the slots are

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_once(), name="redis-slots")
            self._looking.add_done_callback(self._looked)

    def _failed_at_node(self, address: Address) -> float:
        link = self._links.get(address)
        return max(self._node_failed_at.get(address, -math.inf), -math.inf if link is None else link.lost_at)

    def _doubt(self, slot: int, failed_at: float) -> None:
        """Its node failed then, and another has the slot now: nobody could write to the one, and the other may not
        have had everything."""
        if failed_at > self._slot_failed_at.get(slot, -math.inf):
            self._slot_failed_at[slot] = failed_at

    async def _first_look(self) -> None:
        """Raises redis.exceptions.RedisError or OSError."""
        try:
            await self._look()
        except (RedisError, OSError):
            self._unknown_at = time.monotonic()
            raise

    async def _look(self) -> None:
        """Raises redis.exceptions.RedisError or OSError."""
        self._look_soon()
        looking = self._looking
        assert looking is not None  # noqa: S101 - just made
        await asyncio.wait([looking])
        if looking.cancelled():
            raise RedisConnectionError("closed")
        looking.result()

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking, self._looked_at = None, asyncio.get_running_loop().time()
        if not task.cancelled():
            task.exception()  # who waits raises it; after a failed call the next failed call looks again

    async def _look_once(self) -> None:
        await asyncio.sleep(self._looked_at + LOOK_PAUSE_S - asyncio.get_running_loop().time())
        known = sorted({*self._seeds, *self._nodes})
        asked = [
            asyncio.create_task(self._ask(address), name="redis-slots-of")
            for address in random.sample(known, min(len(known), LOOK_NODES_MAX))
        ]
        try:
            _, late = await asyncio.wait(asked, timeout=LOOK_WAIT_S)
            while late and not _views(asked):
                _, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
            views = _views(asked)
        finally:
            for task in asked:
                task.cancel()
        if not views:
            raise RedisConnectionError("no node of the cluster says where its slots are")
        self._take(max(views, key=lambda view: (view.ok, view.epoch)))
        await self._prune()

    async def _ask(self, address: Address) -> _View | None:
        """None when it cannot be asked, or is in no cluster that has slots."""
        commands: list[Command] = [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")]
        try:
            info, slots = await self._link(address).call(commands, LOOK_TIMEOUT_S)
        except (RedisError, OSError):
            return None
        return None if isinstance(info, ResponseError) else _View.read(info.decode(), slots, address)

    def _take(self, view: _View) -> None:
        owners = [view.ranges[0].nodes[0]] * SLOTS
        for part in view.ranges:
            owners[part.first : part.last + 1] = [part.nodes[0]] * (part.last + 1 - part.first)
        primaries = list(dict.fromkeys(part.nodes[0] for part in view.ranges))
        if any(primary not in primaries for primary in self._primaries):
            self._other_losses += 1
        replaced = {node: self._failed_at_node(node) for node in {*self._owners} if node not in primaries}
        for slot, before in enumerate(self._owners if replaced else ()):
            if before in replaced:
                self._doubt(slot, replaced[before])
        self._primaries = primaries
        self._node_failed_at = {node: at for node, at in self._node_failed_at.items() if node in primaries}
        self._owners = owners
        self._nodes = {node for part in view.ranges for node in part.nodes}

    async def _prune(self) -> None:
        for links in (self._links, self._waiting_links):
            for address in [a for a, link in links.items() if a not in self._primaries and link.idle]:
                link = links.pop(address)
                if links is self._links:
                    self._other_losses += link.losses
                await link.aclose()


class _Range(NamedTuple):
    """Slots and who has them, the primary first."""

    first: int
    last: int
    nodes: list[Address]


class _View(NamedTuple):
    """What one node says of the cluster. One that was cut off is not `ok`, or behind in `epoch`."""

    ok: bool
    epoch: int
    ranges: list[_Range]

    @classmethod
    def read(cls, info: str, slots: Any, asked: Address) -> _View | None:
        fields = dict(line.split(":", 1) for line in info.split() if ":" in line)
        if not slots or isinstance(slots, ResponseError):
            return None
        ranges = [
            _Range(first, last, [_address_of(node, asked) for node in nodes]) for first, last, *nodes in slots
        ]
        return cls(fields.get("cluster_state") == "ok", int(fields.get("cluster_current_epoch", 0)), ranges)


def _views(asked: Sequence[asyncio.Task[_View | None]]) -> list[_View]:
    found = [task.result() for task in asked if task.done()]
    return [view for view in found if view is not None]


def _address_of(node: Sequence[Any], asked: Address) -> Address:
    return Address(_host_of((node[0] or b"").decode(), asked), int(node[1]))


def _host_of(named: str, asked: Address) -> str:
    """A node that does not know its own address, or may not say it, is where it was asked."""
    return named if named not in ("", "?") else asked.host


def _packed(commands: Sequence[Command], sends: Sequence[_Send]) -> list[Command]:
    packed: list[Command] = []
    for send in sends:
        if send.asking:
            packed.append(("ASKING",))
        packed.append(commands[send.position])
    return packed


def _put(replies: list[Any], sends: Sequence[_Send], found: Sequence[Any]) -> None:
    answers = iter(found)
    for send in sends:
        if send.asking:
            next(answers)
        reply = next(answers)
        if replies[send.position] is None or isinstance(reply, Exception):
            replies[send.position] = reply


def _did_not_run(reply: Any) -> bool:
    return isinstance(reply, MovedError | AskError | TryAgainError)


def slot_of(key: Argument) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


_KEYLESS = frozenset(
    {"PING", "ECHO", "INFO", "TIME", "DBSIZE", "FLUSHALL", "SCRIPT", "CONFIG", "CLUSTER", "CLIENT"}
)


def _key_of(command: Command) -> Argument | None:
    """The key that decides the slot: the others of a command share it."""
    name = command[0]
    if name in ("EVALSHA", "EVAL"):
        return command[3] if command[2] else None
    if name == "XREAD":
        with suppress(ValueError):
            return command[command.index("STREAMS") + 1]
    return None if name in _KEYLESS else command[1]
