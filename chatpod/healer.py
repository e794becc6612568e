"""Finds what the bus did not bring and reads it from the store.

A room that is known to miss something gets a short grace, for the bus may only be late. Every heartbeat interval
all rooms are compared with the store, and so are the memberships of everyone connected: whatever was lost on the
way, and whoever lost it, is healed within that time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Cursors, Position, encode_json
from chatkernel.reading import strangers
from chatkernel.storage.model import EventRange, Head
from chatkernel.storage.store import Store
from chatpod.hub import Hub
from chatpod.opening import Opener

log = logging.getLogger(__name__)

GRACE_S = 0.03
RETRY_S = 0.5
HEADS_PER_READ = 500
EVENTS_PER_READ = 200
USERS_PER_READ = 100


class Healer:
    """Owns the set of rooms to look after."""

    def __init__(self, hub: Hub, opener: Opener, store: Store, interval_s: float) -> None:
        self._hub, self._opener, self._store, self._interval_s = hub, opener, store, interval_s
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()
        self._away = self._damaged = False
        self.healed = 0

    @property
    def degraded(self) -> bool:
        """The store did not answer when it was last asked, or is known to be damaged."""
        return self._away or self._damaged

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
            wanted, self._wanted = list(self._wanted), set()
            for start in range(0, len(wanted), HEADS_PER_READ):
                await self._try(wanted[start : start + HEADS_PER_READ])

    async def audit(self) -> None:
        """Compare everything with the store, spread over each interval, for ever."""
        while True:
            started = asyncio.get_running_loop().time()
            channel_ids = list(self._hub.rooms)
            user_ids = list(self._hub.users)
            await self._look_for_damage()
            slices = max(1, -(-len(channel_ids) // HEADS_PER_READ), -(-len(user_ids) // USERS_PER_READ))
            for number in range(slices):
                await self._try(channel_ids[number * HEADS_PER_READ : (number + 1) * HEADS_PER_READ])
                await self._try_users(user_ids[number * USERS_PER_READ : (number + 1) * USERS_PER_READ])
                due = started + self._interval_s * (number + 1) / slices
                await asyncio.sleep(max(0.01, due - asyncio.get_running_loop().time()))

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
            if channel_ids:
                await self._heal(channel_ids)
            self._away = False
        except ChatError as error:
            if not self._away:
                log.warning("store away", extra={"error": str(error)})
            self._away = True
            self._wanted.update(channel_ids)
            await asyncio.sleep(RETRY_S)
            self._wake.set()
        except Exception:
            log.exception("heal failed", extra={"channels": len(channel_ids)})
            if len(channel_ids) > 1:
                # One channel that cannot be healed must not keep the others from it.
                for channel_id in channel_ids:
                    await self._try([channel_id])

    async def _try_users(self, user_ids: Sequence[str]) -> None:
        try:
            if user_ids:
                await self._opener.reconcile(user_ids)
        except ChatError:
            self._away = True
        except Exception:
            log.exception("reconcile failed", extra={"users": len(user_ids)})

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
