"""Opens and closes rooms: the order is routes first, then the head from the store, then live.

Whatever is appended between the two is after the head, and comes by the bus or is found by the healer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from chatkernel.batching import Coalescer
from chatkernel.errors import ChatError
from chatkernel.routes import Routes
from chatkernel.storage.model import Grant, Head
from chatkernel.storage.store import Store
from chatpod.hub import Hub
from chatpod.room import Room

log = logging.getLogger(__name__)

UNUSED_S = 10.0
"""How long a room that was opened may stay without a client."""

ROUTES_WAIT_S = 0.3
"""How long an opening waits for Redis."""


class Rooms:
    """Owns the order of route changes; the hub owns the rooms."""

    def __init__(self, hub: Hub, routes: Routes, store: Store, look: Callable[[str], None]) -> None:
        self._hub, self._routes, self._store, self._look = hub, routes, store, look
        self._heads: Coalescer[str, Head] = Coalescer(self._read_heads)
        self._grants: Coalescer[str, list[Grant]] = Coalescer(self._read_grants, max_items=64)
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._arriving: dict[str, asyncio.Task[None]] = {}
        self._routed: set[str] = set()
        """People whose route this pod has asked for."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def grants(self, user_id: str) -> list[Grant]:
        """Raises ChatError."""
        return await self._grants.call(user_id)

    async def open(self, grants: Sequence[Grant]) -> None:
        """Make sure that these rooms are open. Raises ChatError when the store is away; Redis may be.

        The opening belongs to this object and not to whoever asked first: a client that goes away in the middle
        does not take it from the others.
        """
        while True:
            wanted = [grant for grant in grants if not self._is_open(grant.channel_id)]
            if not wanted:
                return
            new = [grant for grant in wanted if grant.channel_id not in self._opening]
            if new:
                task = asyncio.create_task(self._open_new(new), name="open rooms")
                self._opening.update((grant.channel_id, task) for grant in new)
            for task in {self._opening[grant.channel_id] for grant in wanted}:
                await asyncio.shield(task)

    def _is_open(self, channel_id: str) -> bool:
        room = self._hub.rooms.get(channel_id)
        return room is not None and room.last_seq is not None

    async def _open_new(self, grants: Sequence[Grant]) -> None:
        rooms: list[Room] = []
        for grant in grants:
            room = self._hub.room(grant.channel_id)
            room.member_count = grant.member_count
            room.pins += 1
            rooms.append(room)
        channel_ids = [room.channel_id for room in rooms]
        try:
            await self._add_routes(channel_ids)
            heads = await asyncio.gather(*(self._heads.call(channel_id) for channel_id in channel_ids))
            for room, head in zip(rooms, heads, strict=True):
                room.open_at(head)
                if room.behind:
                    self._look(room.channel_id)
        finally:
            for room in rooms:
                room.pins -= 1
                self._opening.pop(room.channel_id, None)
            # Whoever asked comes in now, unless they have gone meanwhile.
            asyncio.get_running_loop().call_later(UNUSED_S, self._drop_unused, channel_ids)

    def _drop_unused(self, channel_ids: Sequence[str]) -> None:
        for channel_id in channel_ids:
            self._hub.drop_if_empty(channel_id)

    async def _add_routes(self, channel_ids: Sequence[str]) -> None:
        """Wait for the routes, but not long: while Redis hangs they come later, and then somebody looks at what
        came in between."""
        adding = self._spawn(self._add_routes_now(channel_ids))
        done, _ = await asyncio.wait({adding}, timeout=ROUTES_WAIT_S)
        if not done:
            adding.add_done_callback(lambda _: self.look_at(channel_ids))

    def look_at(self, channel_ids: Sequence[str]) -> None:
        """Compare these with the store soon."""
        for channel_id in channel_ids:
            self._look(channel_id)

    async def _add_routes_now(self, channel_ids: Sequence[str]) -> None:
        try:
            await self._routes.add(channels=list(channel_ids))
        except ChatError as error:
            # The routes module remembers them and writes them when Redis is back.
            log.debug("routes wait for redis", extra={"error": str(error)})

    def opened_by_event(self, channel_id: str) -> None:
        """A room began with a membership event: its route is new, so look once at what came in between."""
        self._spawn(self._route_then_look(channel_id))

    def closed(self, channel_ids: list[str]) -> None:
        self._spawn(self._remove_routes(channel_ids))

    async def user_came(self, user_id: str) -> None:
        """A client of the person is here: what is for the person comes here from now on."""
        if user_id not in self._routed:
            self._routed.add(user_id)
            self._arriving[user_id] = self._spawn(self._add_user(user_id))
        if (adding := self._arriving.get(user_id)) is not None:
            await asyncio.wait({adding}, timeout=ROUTES_WAIT_S)

    async def _add_user(self, user_id: str) -> None:
        try:
            await self._routes.add(users=[user_id])
        except ChatError as error:
            log.debug("routes wait for redis", extra={"error": str(error)})
        finally:
            # Somebody who went and came again while Redis hung has another one under way.
            if self._arriving.get(user_id) is asyncio.current_task():
                del self._arriving[user_id]

    def user_gone(self, user_id: str) -> None:
        self._spawn(self._remove_user(user_id))

    def unwatched(self, user_ids: list[str]) -> None:
        self._spawn(self._remove_watched(user_ids))

    async def _remove_watched(self, user_ids: list[str]) -> None:
        gone = [user_id for user_id in user_ids if user_id not in self._hub.watchers]
        try:
            await self._routes.remove(watched=gone)
        except ChatError as error:
            log.debug("routes wait for redis", extra={"error": str(error)})

    async def _remove_user(self, user_id: str) -> None:
        if user_id in self._hub.users:
            return
        self._routed.discard(user_id)
        try:
            await self._routes.remove(users=[user_id])
        except ChatError as error:
            log.debug("routes wait for redis", extra={"error": str(error)})

    async def _route_then_look(self, channel_id: str) -> None:
        await self._add_routes([channel_id])
        self._look(channel_id)
        await self._count_members(channel_id)

    async def _count_members(self, channel_id: str) -> None:
        """The event that opened the room says who was added, not how many were there before."""
        try:
            state = await self._store.channel(channel_id)
        except ChatError as error:
            log.debug("members not counted", extra={"error": str(error)})
            return
        room = self._hub.rooms.get(channel_id)
        if room is not None and state is not None:
            room.member_count = state.member_count

    async def _remove_routes(self, channel_ids: list[str]) -> None:
        # Somebody may have come in again meanwhile.
        gone = [channel_id for channel_id in channel_ids if channel_id not in self._hub.rooms]
        try:
            await self._routes.remove(channels=gone)
        except ChatError as error:
            log.debug("routes wait for redis", extra={"error": str(error)})

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read_heads(self, channel_ids: Sequence[str]) -> list[Head]:
        heads = await self._store.heads(list(dict.fromkeys(channel_ids)))
        return [heads.get(channel_id, Head()) for channel_id in channel_ids]

    async def _read_grants(self, user_ids: Sequence[str]) -> list[list[Grant]]:
        found = await self._store.grants_of(list(dict.fromkeys(user_ids)))
        return [found.get(user_id, []) for user_id in user_ids]
