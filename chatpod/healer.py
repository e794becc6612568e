"""Finds what the bus did not bring and reads it from the store.

A room that is known to miss something gets a short grace, for the bus may only be late. Every heartbeat interval
all rooms are compared with the store, and so are the memberships of everyone connected: whatever was lost on the
way, and whoever lost it, is healed within that time.

Of a store that is in parts, one may be away. Rooms whose heads could not be read are lost: they are looked for one by
one, apart from the others, which nobody keeps waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Cursors, Position, encode_json
from chatkernel.reading import strangers
from chatkernel.storage.model import EventRange, Head
from chatkernel.storage.store import Store
from chatkernel.storage.together import gathered
from chatpod.hub import Hub
from chatpod.opening import Opener

log = logging.getLogger(__name__)

GRACE_S = 0.03
RETRY_S = 0.5
HEADS_PER_READ = 500
EVENTS_PER_READ = 200
USERS_PER_READ = 100
PROBES = 16
"""Of so many lost rooms one has to be found before all are looked for: a store that is away as a whole is asked for
little."""
PATIENCE_S = 1.0
"""How long the head of one room is waited for while others are lost."""


class Healer:
    """Owns the set of rooms to look after."""

    def __init__(self, hub: Hub, opener: Opener, store: Store, interval_s: float) -> None:
        self._hub, self._opener, self._store, self._interval_s = hub, opener, store, interval_s
        self._wanted: set[str] = set()
        self._wake, self._misses = asyncio.Event(), asyncio.Event()
        self._lost: set[str] = set()
        self._away = self._damaged = False
        self.healed = 0

    @property
    def degraded(self) -> bool:
        """The store, or a part of it, did not answer when it was last asked, or is known to be damaged."""
        return self._away or self._damaged or bool(self._lost)

    def want(self, channel_ids: Iterable[str]) -> None:
        self._wanted.update(channel_ids)
        self._wake.set()

    def want_all(self) -> None:
        self.want(self._hub.rooms)

    async def run(self) -> None:
        """Heal what is wanted, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GRACE_S)
            self._wake.clear()
            wanted = sorted(self._wanted - self._lost)
            self._wanted &= self._lost
            for start in range(0, len(wanted), HEADS_PER_READ):
                await self._try(wanted[start : start + HEADS_PER_READ])

    async def audit(self) -> None:
        """Compare all rooms with the store, spread over each interval, for ever."""
        while True:
            # Neighbours are mostly on the same shard, so that one that is away fails few of the others' reads.
            channel_ids = sorted(self._hub.rooms.keys() - self._lost)
            await self._spread(channel_ids, HEADS_PER_READ, self._try)

    async def audit_people(self) -> None:
        """The same of who is in which rooms. A person's channels are on any shard: while one is away nobody's can be
        read, and that must hold up no room."""
        while True:
            await self._look_for_damage()
            user_ids = list(self._hub.users)
            self._away &= bool(user_ids)
            await asyncio.gather(
                self._spread(user_ids, USERS_PER_READ, self._try_users),
                self._spread(list(self._hub.rooms), HEADS_PER_READ, self._try_counts),
            )

    async def _spread(
        self, names: Sequence[str], size: int, look: Callable[[Sequence[str]], Awaitable[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        started, slices = loop.time(), max(1, -(-len(names) // size))
        for number in range(slices):
            if some := names[number * size : (number + 1) * size]:
                await look(some)
            due = started + self._interval_s * (number + 1) / slices
            await asyncio.sleep(max(0.01, due - loop.time()))

    async def seek(self) -> None:
        """Look for lost rooms, for ever."""
        turn = 0
        while True:
            await self._misses.wait()
            await asyncio.sleep(RETRY_S)
            self._lost &= self._hub.rooms.keys()
            lost = sorted(self._lost)
            step = max(1, len(lost) // PROBES)
            probes = lost[turn % step :: step]
            turn += 1
            if any(await gathered([self._find(channel_id) for channel_id in probes])):
                others = sorted(self._lost.difference(probes))
                await gathered([self._find(channel_id) for channel_id in others])
            if not self._lost:
                self._misses.clear()

    async def _find(self, channel_id: str) -> bool:
        try:
            await self._store.heads([channel_id], within_s=PATIENCE_S)
            await self._heal([channel_id])
        except ChatError:
            return False
        except Exception:
            log.exception("heal failed", extra={"channels": 1})
        self._lost.discard(channel_id)
        if channel_id in self._wanted:
            self._wake.set()
        return True

    async def _look_for_damage(self) -> None:
        """Whatever met it, a send or a page of history: it does not go away by itself, and a person has to know."""
        try:
            await self._store.check()
        except ChatError as error:
            if error.code is Code.STORAGE_DAMAGED and not self._damaged:
                self._damaged = True
                log.critical("store damaged", extra={"error": str(error)})

    async def _try(self, channel_ids: Sequence[str]) -> None:
        try:
            if self._lost:
                # These may be lost, too, and one tells it sooner than all.
                await self._store.heads(channel_ids[:1], within_s=PATIENCE_S)
            await self._heal(channel_ids)
        except ChatError as error:
            if not self._lost:
                log.warning("store away", extra={"error": str(error)})
            self._lost.update(channel_ids)
            self._misses.set()
        except Exception:
            log.exception("heal failed", extra={"channels": len(channel_ids)})
            if len(channel_ids) > 1:
                # One channel that cannot be healed must not keep the others from it.
                for channel_id in channel_ids:
                    await self._try([channel_id])

    async def _try_users(self, user_ids: Sequence[str]) -> None:
        try:
            await self._opener.reconcile(user_ids)
            self._away = False
        except ChatError:
            self._away = True
        except Exception:
            log.exception("reconcile failed", extra={"users": len(user_ids)})

    async def _try_counts(self, channel_ids: Sequence[str]) -> None:
        try:
            await self._opener.recount(channel_ids)
        except ChatError as error:
            log.debug("members not counted", extra={"error": str(error)})
        except Exception:
            log.exception("recount failed", extra={"channels": len(channel_ids)})

    async def _heal(self, channel_ids: Sequence[str]) -> None:
        # Noted before the heads are read: these can only be later.
        stood = {c: room.checked for c in channel_ids if (room := self._hub.rooms.get(c)) is not None}
        heads = await self._store.heads(channel_ids)
        await self._compare(stood, heads)
        for channel_id, head in heads.items():
            room = self._hub.rooms.get(channel_id)
            while room is not None and room.last_seq is not None and room.last_seq < head.seq:
                before = room.last_seq
                [events] = await self._store.events(
                    [EventRange(channel_id, before, EVENTS_PER_READ, head.seq)]
                )
                if not events:
                    break
                # A hole is what retention has removed meanwhile: nobody can ever get it.
                room.skip_to(events[0].seq - 1)
                self._hub.healed(events, [encode_json(event) for event in events])
                self.healed += len(events)
                room = self._hub.rooms.get(channel_id)
                if room is not None and room.last_seq == before:
                    break

    async def _compare(self, stood: Mapping[str, Head], heads: Mapping[str, Head]) -> None:
        """A database that fails over may take back what it has shown, and another message then gets its seq. Raises
        ChatError."""
        cursors: Cursors = {c: Position(head.seq, head.message_id) for c, head in stood.items() if head.seq}
        replaced = set(await strangers(self._store, cursors, heads))
        for channel_id, head in heads.items():
            room = self._hub.rooms.get(channel_id)
            if room is None:
                continue
            if channel_id in replaced:
                log.warning("log replaced", extra={"channel": channel_id, "seq": head.seq})
                await self._opener.begin_anew(room, head)
            elif head.seq >= room.checked.seq:
                room.checked = head
