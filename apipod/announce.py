"""What HTTP changes is told at once: to the person's own devices, to the other person, to the pods."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from chatkernel.bus import BlocksChanged, Post, Revoked, UserFrame
from chatkernel.errors import ChatError
from chatkernel.ids import NowMs
from chatkernel.presence import PresenceStore
from chatkernel.presence_news import audiences_now, presence_post
from chatkernel.protocol import Notice, NoticeTopic, PresenceEntry, PresenceState, encode_json
from chatkernel.storage.directory import People

log = logging.getLogger(__name__)


class Announcer:
    """Queues what others should hear. Nothing here fails a request: who misses a notice reads the state
    anyway."""

    def __init__(
        self, tell: Callable[[Sequence[Post]], None], presence: PresenceStore, people: People, now: NowMs
    ) -> None:
        self._tell, self._presence, self._people, self._now = tell, presence, people, now

    def notice(
        self,
        topic: NoticeTopic,
        to: str,
        *,
        channel_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Tell all devices of `to` to read something again."""
        frame = encode_json(Notice(topic, channel_id, user_id))
        self._tell([Post(UserFrame([to], frame), users=(to,))])

    def devices_changed(self, user_id: str) -> None:
        self.notice(NoticeTopic.DEVICES, user_id)

    def blocks_changed(self, user_id: str, other_id: str) -> None:
        """Pods remember who may write to whom: both people's pods ask the store again."""
        self._tell([Post(BlocksChanged([user_id, other_id]), users=(user_id, other_id))])

    async def revoked(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Close the sockets of these devices and take them out of presence, now."""
        if not device_ids:
            return
        self._tell([Post(Revoked(user_id, list(device_ids)), users=(user_id,))])
        self.devices_changed(user_id)
        try:
            # Each must leave; the last one to leave says that the person went offline.
            left = [await self._presence.leave(user_id, device_id) for device_id in device_ids]
            if any(left):
                await self._gone(user_id)
        except ChatError as error:
            # The leases run out by themselves; the pods that close the sockets will try as well.
            log.info("presence.leave_failed", extra={"user_id": user_id, "code": error.code})

    async def _gone(self, user_id: str) -> None:
        kept = await self._presence.audience([user_id])
        audience = (await audiences_now(self._people, [user_id], kept))[user_id]
        self._tell([presence_post(PresenceEntry(user_id, PresenceState.OFFLINE, self._now()), audience)])
