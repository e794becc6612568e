"""Keeps the leases of the people connected here, in one batch per interval, and tells who came or went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from chatkernel.batching import Coalescer
from chatkernel.bus import Post
from chatkernel.errors import ChatError, Close
from chatkernel.presence import Audience, PresenceStore
from chatkernel.presence_news import presence_post
from chatkernel.protocol import PresenceEntry, PresenceState
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings
from chatkernel.storage.store import Store
from chatpod.client import Client
from chatpod.hub import Hub

log = logging.getLogger(__name__)

RENEWALS_PER_HEARTBEAT = 4
"""A lease is renewed for those heard of since the last renewal, so that silence is noticed at most a quarter of a
heartbeat late."""

AUDIENCE_HEARTBEATS = 6
BATCH = 500


class PresenceAgent:
    """Owns the note of what failed: leases are in Redis, clients are the hub's."""

    def __init__(  # noqa: PLR0917 - wiring
        self,
        hub: Hub,
        presence: PresenceStore,
        routes: Routes,
        store: Store,
        settings: PresenceSettings,
        tell: Callable[[Sequence[Post]], None],
        now: Callable[[], int],
    ) -> None:
        self._hub, self._presence, self._routes, self._store = hub, presence, routes, store
        self._settings, self._tell, self._now = settings, tell, now
        self._arrivals: Coalescer[Client, None] = Coalescer(self._came_in)
        self._owed: dict[Client, bool] = {}
        """Whose beat failed, or who was not told of; True: to be told of, whatever the next beat says. The reply that
        said who came online may have been lost, and to say it twice is harmless."""
        self.degraded = False

    async def arrived(self, client: Client) -> None:
        """A client has logged in: its lease begins, and who should know is told if the person was offline."""
        await self._arrivals.call(client)

    async def watch(self, client: Client, user_ids: frozenset[str]) -> None:
        first, gone = self._hub.watch(client, user_ids)
        try:
            await self._routes.add(watched=first)
            await self._routes.remove(watched=[u for u in gone if u not in self._hub.watchers])
        except ChatError as error:
            log.debug("routes wait for redis", extra={"error": str(error)})

    async def run(self) -> None:
        """Renew leases and close silent clients, for ever."""
        loop = asyncio.get_running_loop()
        interval_s = self._settings.heartbeat_interval_s / RENEWALS_PER_HEARTBEAT
        heard_since, turn = loop.time(), 0
        while True:
            due = loop.time() + interval_s
            await asyncio.sleep(interval_s)
            # Counted from when this should have run: while the pod itself did not run, nobody was silent, and what
            # they said is still to be read.
            oldest = due - self._settings.offline_after_s
            for client in list(self._hub.clients.values()):
                if client.beat_at < oldest and not client.opening:
                    client.connection.close(Close.HEARTBEAT_TIMEOUT, "no heartbeat")
            now_s = loop.time()
            await self._renew([c for c in self._hub.clients.values() if c.beat_at >= heard_since])
            await self._look_up()
            heard_since, turn = now_s, turn + 1
            if turn % (RENEWALS_PER_HEARTBEAT * AUDIENCE_HEARTBEATS) == 0:
                await self._refresh_audiences()

    async def renew_all(self) -> None:
        """Redis was emptied: everyone who was heard of within a heartbeat is here."""
        recent = asyncio.get_running_loop().time() - self._settings.heartbeat_interval_s
        await self._renew([c for c in self._hub.clients.values() if c.beat_at >= recent])

    async def _renew(self, clients: Sequence[Client]) -> None:
        """These, and those whose renewal failed. Those that are still coming in announce themselves when they are in
        all their channels."""
        due = dict.fromkeys((*clients, *self._owed))
        alive = [client for client in due if not client.opening and not client.connection.closed]
        self._owed = {client: self._owed[client] for client in alive if client in self._owed}
        for start in range(0, len(alive), BATCH):
            await self._beat(alive[start : start + BATCH])

    async def _look_up(self) -> None:
        """Whether presence is well again: nothing failed of late, and Redis itself says so."""
        if self.degraded and not self._owed:
            try:
                await self._presence.check()
            except ChatError:
                return
            self.degraded = False
            log.info("presence back")

    async def _refresh_audiences(self) -> None:
        """Friends and groups that came since the log-in hear of the log-out, and those that went do not."""
        clients = [next(iter(mine)) for mine in self._hub.users.values()]
        try:
            for start in range(0, len(clients), BATCH):
                await self._store_audiences(clients[start : start + BATCH])
        except ChatError as error:
            log.debug("audiences not refreshed", extra={"error": str(error)})

    async def _came_in(self, clients: Sequence[Client]) -> list[None]:
        await self._beat(clients, are_new=True)
        return [None] * len(clients)

    async def _beat(self, clients: Sequence[Client], *, are_new: bool = False) -> None:
        came: set[str] = set()
        failed = {client.user_id for client in clients}
        try:
            beats = await self._presence.beat([(c.user_id, c.device_id) for c in clients])
            came, failed = set(beats.came), set(beats.failed)
        except ChatError as error:
            self._note(error)
        telling = [
            client
            for client in clients
            if client.user_id not in failed and (client.user_id in came or self._owed.get(client))
        ]
        for client in clients:
            if client.user_id in failed:
                self._owed[client] = are_new or self._owed.get(client, False)
                self.degraded = True
            else:
                self._owed.pop(client, None)
        try:
            if telling:
                await self._announce(telling)
        except Exception as error:
            self._owed.update(dict.fromkeys(telling, True))
            if not isinstance(error, ChatError):
                log.exception("presence failed")
            self._note(error)

    def _note(self, error: Exception) -> None:
        if not self.degraded:
            log.warning("presence degraded", extra={"error": str(error)})
        self.degraded = True

    async def _announce(self, clients: Sequence[Client]) -> None:
        """Friends and the members of 1:1s and small groups are told; large groups ask."""
        now = self._now()
        audiences = await self._store_audiences(clients)
        online = PresenceState.ONLINE
        self._tell(
            [presence_post(PresenceEntry(u, online, now), audience) for u, audience in audiences.items()]
        )

    async def _store_audiences(self, clients: Sequence[Client]) -> dict[str, Audience]:
        """Whom to tell of each person; kept in Redis for whoever tells of the log-out."""
        by_user = {client.user_id: client for client in clients}
        friends, hidden = await asyncio.gather(
            self._store.friend_ids(list(by_user)), self._store.blocked_by(list(by_user))
        )
        audiences = {
            user_id: Audience(self._small_rooms(client), friends[user_id], hidden[user_id])
            for user_id, client in by_user.items()
        }
        kept = await asyncio.gather(
            *(self._presence.set_audience(u, audience) for u, audience in audiences.items()),
            return_exceptions=True,
        )
        for error in kept:
            # What is not kept is kept at the next refreshing, and may be told of all the same.
            if error is not None and not isinstance(error, ChatError):
                raise error
        return audiences

    def _small_rooms(self, client: Client) -> list[str]:
        return [
            channel_id
            for channel_id in client.rooms
            if (room := self._hub.rooms.get(channel_id)) is not None
            and room.member_count <= self._settings.small_group_max
        ]
