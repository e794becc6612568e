"""Brings a client up to date and makes its channels live, without a gap and without a hold-up for others.

A channel becomes live for a client in the same turn of the loop in which the last of its missing events is
written: so no event is between what was read from the store and what comes live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from chatkernel.errors import ChatError, Close, Code
from chatkernel.live import Live
from chatkernel.paging import HEADS_PER_PAGE, OUTBOX_SHARE, Stride
from chatkernel.protocol import ChannelHead, Cursors, Event, Page, Resync, encode_json
from chatkernel.reading import first_seq, place_of, seq_of, strangers
from chatkernel.storage.model import Absence, EventRange, Grant, Head
from chatkernel.storage.store import Store
from chatkernel.storage.together import gathered
from chatpod.client import Client
from chatpod.hub import Hub
from chatpod.room import Room
from chatpod.rooms import Rooms

PACE_MAX_S = 60.0
PACE_S = 0.005
"""How long to wait before looking again whether a client has read the pages it was sent."""


class Opener:
    """Holds no state: rooms are the hub's."""

    def __init__(self, hub: Hub, rooms: Rooms, store: Store, live: Live) -> None:
        self._hub, self._rooms, self._store, self._live = hub, rooms, store, live

    async def open(self, client: Client, page_id: str, cursors: Cursors) -> None:
        """Send everything after the cursors and go live in all channels of the person. Raises ChatError."""
        grants = await self._rooms.grants(client.user_id)
        await self._rooms.open(grants)
        mine = {grant.channel_id for grant in grants}
        left = [channel_id for channel_id in cursors if channel_id not in mine]
        strange = await self._strange({c: cursor for c, cursor in cursors.items() if c in mine})
        if strange:
            client.send(Resync(strange, reset=True))
        known = {c: seq_of(cursor) for c, cursor in cursors.items() if c not in strange}
        left += await self.catch_up(client, page_id, grants, known)
        client.opening = False
        # However long it took: from now on it is the client's to be heard of.
        client.beat_at = asyncio.get_running_loop().time()
        # Somebody who was added again meanwhile has the channel live by that event.
        client.send(Page(page_id, "sync", left=[c for c in left if c not in client.rooms]))

    async def _strange(self, cursors: Cursors) -> list[str]:
        """Channels whose cursor is of another log. What the rooms know already decides nearly all of them, for they
        have mostly just been opened; only the rest is looked up."""
        unsure: Cursors = {}
        for channel_id, cursor in cursors.items():
            room = self._hub.rooms.get(channel_id)
            if room is None or not room.vouches_for(*place_of(cursor)):
                unsure[channel_id] = cursor
        if not unsure:
            return []
        heads = await self._store.heads(list(unsure))
        for channel_id, head in heads.items():
            room = self._hub.rooms.get(channel_id)
            if room is not None:
                room.head = head
        return await strangers(self._store, unsure, heads)

    async def reconcile(self, user_ids: Sequence[str]) -> None:
        """Put people into channels that they are in by the store and not here, and out of those they left.

        Raises ChatError.
        """
        by_user = await self._store.channels_of(user_ids)
        for user_id, held in by_user.items():
            for client in list(self._hub.users.get(user_id, ())):
                if client.opening:
                    continue
                missing = held - client.rooms
                if missing:
                    await self._bring(client, missing)
                for channel_id in client.rooms - held:
                    if isinstance(await self._store.grant(channel_id, user_id), Absence):
                        self._hub.detach(client, channel_id)
                        client.send(Resync([channel_id]))

    async def recount(self, channel_ids: Sequence[str]) -> None:
        """How many are in these, whatever was counted from events. Raises ChatError."""
        for channel_id, count in (await self._store.member_counts(channel_ids)).items():
            if (room := self._hub.rooms.get(channel_id)) is not None:
                room.member_count = count

    async def begin_anew(self, room: Room, head: Head) -> None:
        """What was told of a channel is not in its log any more: a failover took it back. All who are in it here are
        told so, and stand at the end that there is now. Raises ChatError; the next audit brings whom this did not."""
        clients = list(room.clients)
        room.pins += 1
        try:
            for client in clients:
                self._hub.detach(client, room.channel_id)
                client.send(Resync([room.channel_id], reset=True))
            room.begin_anew(head)
            for client in clients:
                grant = await self._store.grant(room.channel_id, client.user_id)
                if not isinstance(grant, Absence):
                    await self.catch_up(client, "", [grant], {})
        finally:
            room.pins -= 1
            self._hub.drop_if_empty(room.channel_id)

    async def _bring(self, client: Client, channel_ids: Iterable[str]) -> None:
        """Channels that the client should have had live: from where the person came in, for that event and what
        followed may be what was lost. Who had it drops it. Raises ChatError.

        One page and no waiting, for others are looked at after this one: what it did not bring, however long ago
        the person came in, the client asks for from its own cursors.
        """
        if client.connection.unsent_bytes() > self._live.limits.outbox_max_bytes // 2:
            return  # the next audit finds them again
        found = await gathered([self._store.grant(channel_id, client.user_id) for channel_id in channel_ids])
        grants = [grant for grant in found if not isinstance(grant, Absence)]
        cursors = {grant.channel_id: max(grant.joined_seq - 1, grant.from_seq) for grant in grants}
        await self.catch_up(client, "", grants, cursors, only_a_page=True)

    async def catch_up(
        self,
        client: Client,
        page_id: str,
        grants: Sequence[Grant],
        cursors: Mapping[str, int],
        *,
        only_a_page: bool = False,
    ) -> list[str]:
        """Pages of what is after each cursor (no cursor: from the head on), each channel live when it is complete.

        The channels that the person turned out not to be in any more. Raises ChatError.
        """
        await self._rooms.open(grants)
        pinned = [self._open_room(grant.channel_id) for grant in grants]
        for room in pinned:
            room.pins += 1
        try:
            return await self._catch_up(client, page_id, grants, cursors, only_a_page)
        finally:
            for room in pinned:
                room.pins -= 1
                self._hub.drop_if_empty(room.channel_id)

    async def _catch_up(
        self,
        client: Client,
        page_id: str,
        grants: Sequence[Grant],
        cursors: Mapping[str, int],
        only_a_page: bool,
    ) -> list[str]:
        left: list[str] = []
        ready: dict[str, ChannelHead] = {}
        behind: dict[str, tuple[int, Grant]] = {}
        for given in grants:
            grant = await self._current(given)
            if grant is None:
                left.append(given.channel_id)
                continue
            if self._comes_in_later(grant):
                continue
            room = self._open_room(grant.channel_id)
            cursor = cursors.get(grant.channel_id)
            if cursor is not None and max(cursor, grant.from_seq) < (room.last_seq or 0):
                behind[grant.channel_id] = (max(cursor, grant.from_seq), grant)
                continue
            self._hub.attach(client, room)
            ready[grant.channel_id] = room.head_for(cursor or 0, first_seq(grant))
            if len(ready) >= HEADS_PER_PAGE:
                client.send(Page(page_id, "sync", heads=ready, done=False))
                ready = {}
        if ready:
            client.send(Page(page_id, "sync", heads=ready, done=False))
        stride = Stride(self._live.limits.page_max_items)
        while behind and not client.connection.closed:
            left += await self._next_page(client, page_id, behind, stride)
            if only_a_page:
                self._leave_to_client(client, [grant for _, grant in behind.values()])
                break
            await self.pace(client)
        return left

    def _leave_to_client(self, client: Client, grants: Sequence[Grant]) -> None:
        """Live from here on, and told to ask for what was before. Waits for nothing, so the grants are as they were
        looked at; where somebody came or went meanwhile, it is for the next audit."""
        asked: list[str] = []
        for grant in grants:
            room = self._open_room(grant.channel_id)
            if room.members_seq <= grant.members_seq and (room.last_seq or 0) >= grant.from_seq:
                self._hub.attach(client, room)
                asked.append(grant.channel_id)
        if asked:
            client.send(Resync(asked))

    async def _next_page(
        self, client: Client, page_id: str, behind: dict[str, tuple[int, Grant]], stride: Stride
    ) -> list[str]:
        """Read one page's worth for the first channels that are behind; the channels found to be left."""
        left: list[str] = []
        for channel_id in list(behind)[:HEADS_PER_PAGE]:
            fresh = await self._current(behind[channel_id][1])
            if fresh is None:
                left.append(channel_id)
                del behind[channel_id]
            elif self._comes_in_later(fresh):
                del behind[channel_id]
            else:
                # Added again meanwhile: what was while the person was out stays hidden.
                behind[channel_id] = (max(behind[channel_id][0], fresh.from_seq), fresh)
        # No await between here and the read: what goes out from now on is noted from exactly `upto_seq`.
        wanted: list[EventRange] = []
        notes: dict[str, list[bytes]] = {}
        items = stride.items
        for channel_id, (after, grant) in list(behind.items())[:HEADS_PER_PAGE]:
            room = self._open_room(channel_id)
            if room.members_seq > grant.members_seq:
                continue  # somebody came or went while the other grants were read: in the next round
            last = max(room.last_seq or 0, after)
            wanted.append(EventRange(channel_id, after, max(1, min(items, last - after)), last))
            notes[channel_id] = room.record()
            items -= last - after
            if items <= 0:
                break
        if not wanted:
            return left
        try:
            found = await self._store.events(wanted)
            stride.read(sum(map(len, found)), self._finish(client, page_id, behind, wanted, found, notes))
        finally:
            for channel_id, noted in notes.items():
                self._open_room(channel_id).stop_recording(noted)
        return left

    def _finish(  # noqa: PLR0917 - one page's state, which only this and its caller know
        self,
        client: Client,
        page_id: str,
        behind: dict[str, tuple[int, Grant]],
        wanted: Sequence[EventRange],
        answers: Sequence[list[Event]],
        notes: Mapping[str, list[bytes]],
    ) -> int:
        """Send the page; channels complete with it go live. Waits for nothing, so nothing can come in between. How
        many events the page had room for."""
        events: list[Event] = []
        heads: dict[str, ChannelHead] = {}
        left_bytes = self._live.limits.outbox_max_bytes // OUTBOX_SHARE
        for asked, found in zip(wanted, answers, strict=True):
            start = len(events)
            for event in found:
                left_bytes -= len(encode_json(event))
                if left_bytes < 0 and events:
                    break
                events.append(event)
            got = events[start:]
            upto, grant = asked.upto_seq or 0, behind[asked.channel_id][1]
            reached = got[-1].seq if got else asked.after_seq if found else upto
            behind[asked.channel_id] = (reached, grant)
            # After a change of membership the grant is read again first, in the next round.
            if reached >= upto and self._open_room(asked.channel_id).members_seq <= grant.members_seq:
                heads[asked.channel_id] = ChannelHead(
                    reached, got[-1].message_id if got else 0, first_seq=first_seq(grant)
                )
        client.send(Page(page_id, "sync", events=events, heads=heads, done=False))
        for channel_id in heads:
            del behind[channel_id]
            for payload in notes[channel_id]:
                client.send_payload(payload)
            self._hub.attach(client, self._open_room(channel_id))
        return len(events)

    async def _current(self, grant: Grant) -> Grant | None:
        """The grant, read again if the room has seen a later change of membership."""
        while self._open_room(grant.channel_id).members_seq > grant.members_seq:
            fresh = await self._store.grant(grant.channel_id, grant.user_id)
            if isinstance(fresh, Absence):
                return None
            # While it was read somebody may have come or gone again: only a grant that is as new as the room
            # counts, and the caller acts on it before anything else runs.
            grant = fresh
        return grant

    def _comes_in_later(self, grant: Grant) -> bool:
        """Whether the person came in by an event that the store has and this room has not: that one makes the channel
        live, and what the room delivers until then is not theirs to see."""
        if (self._open_room(grant.channel_id).last_seq or 0) >= grant.from_seq:
            return False
        self._rooms.look_at([grant.channel_id])
        return True

    def _open_room(self, channel_id: str) -> Room:
        room = self._hub.rooms.get(channel_id)
        if room is None or room.last_seq is None:
            raise ChatError(Code.STORAGE_UNAVAILABLE, "The channel could not be opened", retry_after_s=0.5)
        return room

    async def pace(self, client: Client) -> None:
        """Wait for a client that has much to read; one that reads nothing is closed, resumably."""
        waited_s = 0.0
        while client.connection.unsent_bytes() > self._live.limits.outbox_max_bytes // 2:
            await asyncio.sleep(PACE_S)
            waited_s += PACE_S
            if client.connection.closed:
                return
            if waited_s > PACE_MAX_S:
                client.connection.close(Close.SLOW_CONSUMER, "pages not read")
