"""The registry of clients and rooms of this pod, and the fan-out to them. It does no I/O and waits for nothing.

Events come from three sides (this pod's appends, the bus, the store when a gap is healed) and leave in one order:
each room's. Membership events change who is in a room at exactly their place in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from chatkernel.appender import Appender
from chatkernel.bus import (
    BlocksChanged,
    ChannelFrame,
    Envelope,
    EventEnvelope,
    Poke,
    Post,
    PresenceChange,
    Revoked,
    UserFrame,
)
from chatkernel.errors import Close
from chatkernel.protocol import (
    MEMBERSHIP_KINDS,
    Event,
    EventKind,
    decode_server_json,
    encode_msgpack,
)
from chatpod.client import Client
from chatpod.connection import binary_frame, text_frame
from chatpod.room import Room

_event_decoder = msgspec.json.Decoder(Event)


class Hub:
    """Owns rooms and clients. The hooks tell the pod's loops what needs I/O."""

    def __init__(
        self,
        *,
        on_behind: Callable[[Room], None],
        on_room_opened: Callable[[str], None],
        on_rooms_closed: Callable[[list[str]], None],
        on_unwatched: Callable[[list[str]], None],
        on_blocks_changed: Callable[[], None],
        appender: Appender,
    ) -> None:
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, dict[Client, None]] = {}
        self.clients: dict[str, Client] = {}
        self.watchers: dict[str, set[Client]] = {}
        """User id to the clients that watch that person's presence."""
        self.deliveries = 0
        self._on_behind, self._on_room_opened = on_behind, on_room_opened
        self._on_rooms_closed, self._on_blocks_changed = on_rooms_closed, on_blocks_changed
        self._on_unwatched = on_unwatched
        self._appender = appender

    # --- clients and rooms --------------------------------------------------------------------------------

    def register(self, client: Client) -> bool:
        """Whether it is the person's first client here."""
        self.clients[client.session_id] = client
        mine = self.users.setdefault(client.user_id, {})
        mine[client] = None
        return len(mine) == 1

    def make_room(self, client: Client, most: int) -> None:
        """A device has no more than so many sockets here: those that have been there longest go, for they are most
        likely dead and only not known to be."""
        theirs = [
            other
            for other in self.users.get(client.user_id, ())
            if other.device_id == client.device_id and not other.connection.closed
        ]
        for other in theirs[: max(0, len(theirs) - most + 1)]:
            other.connection.close(Close.REPLACED, "too many connections of this device")

    def deregister(self, client: Client) -> bool:
        """Take the client out of everything at once; whether it was the person's last here."""
        self.clients.pop(client.session_id, None)
        closed = [channel_id for channel_id in client.rooms if self._leave(channel_id, client)]
        client.rooms.clear()
        if closed:
            self._on_rooms_closed(closed)
        _, unwatched = self.watch(client, frozenset())
        if unwatched:
            self._on_unwatched(unwatched)
        mine = self.users.get(client.user_id)
        if mine is None or client not in mine:
            return False
        del mine[client]
        if mine:
            return False
        del self.users[client.user_id]
        return True

    def room(self, channel_id: str) -> Room:
        """The room, made if need be (its head is then unknown)."""
        room = self.rooms.get(channel_id)
        if room is None:
            room = self.rooms[channel_id] = Room(channel_id)
        return room

    def attach(self, client: Client, room: Room) -> None:
        """From here on the client gets what follows `room.last_seq`."""
        if client.session_id in self.clients and self.rooms.get(room.channel_id) is room:
            room.add(client)
            client.rooms.add(room.channel_id)

    def detach(self, client: Client, channel_id: str) -> None:
        client.rooms.discard(channel_id)
        if self._leave(channel_id, client):
            self._on_rooms_closed([channel_id])

    def drop_if_empty(self, channel_id: str) -> None:
        room = self.rooms.get(channel_id)
        if room is not None and not room.clients and not room.pins:
            del self.rooms[channel_id]
            self._on_rooms_closed([channel_id])

    def watch(self, client: Client, user_ids: frozenset[str]) -> tuple[list[str], list[str]]:
        """Replace what the client watches; user ids first watched here and no longer watched here."""
        before = client.watched or frozenset()
        client.watched = user_ids or None
        first = [u for u in user_ids - before if u not in self.watchers]
        for user_id in user_ids - before:
            self.watchers.setdefault(user_id, set()).add(client)
        gone = []
        for user_id in before - user_ids:
            watchers = self.watchers.get(user_id, set())
            watchers.discard(client)
            if not watchers:
                self.watchers.pop(user_id, None)
                gone.append(user_id)
        return first, gone

    def _leave(self, channel_id: str, client: Client) -> bool:
        room = self.rooms.get(channel_id)
        if room is None:
            return False
        room.remove(client)
        if room.clients or room.pins:
            return False
        del self.rooms[channel_id]
        return True

    # --- events -------------------------------------------------------------------------------------------

    def stored(self, events: Sequence[Event], frames: Sequence[bytes]) -> None:
        """What this pod has appended, in order per channel. Messages of one channel that follow each other go out
        as one write per client: that is what makes a busy room cheap."""
        count, start = len(events), 0
        while start < count:
            first = events[start]
            end = start + 1
            if first.kind not in MEMBERSHIP_KINDS:
                room = self.rooms.get(first.channel_id)
                if room is not None and room.last_seq == first.seq - 1 and not room.holds_early:
                    while end < count and self._follows(events[end - 1], events[end]):
                        end += 1
                    self._deliver_run(room, events[end - 1].seq, frames[start:end])
                    start = end
                    continue
            self._take(first.channel_id, first.seq, frames[start], first.kind in MEMBERSHIP_KINDS)
            start = end

    def _follows(self, before: Event, event: Event) -> bool:
        return (
            event.seq == before.seq + 1
            and event.channel_id == before.channel_id
            and event.kind not in MEMBERSHIP_KINDS
        )

    def _deliver_run(self, room: Room, last_seq: int, frames: Sequence[bytes]) -> None:
        room.last_seq = last_seq
        self.deliveries += room.write_events(frames)

    def told(self, posts: Sequence[Post]) -> None:
        """What this pod tells everyone, itself first."""
        for post in posts:
            self.take(post.envelope)

    def take(self, envelope: Envelope) -> None:
        """Something from the bus."""
        match envelope:
            case EventEnvelope():
                self._take(
                    envelope.channel_id, envelope.seq, envelope.frame, envelope.membership, foreign=True
                )
            case ChannelFrame():
                room = self.rooms.get(envelope.channel_id)
                if room is not None:
                    room.write(envelope.frame)
            case UserFrame():
                self._write_to(self._clients_of(envelope.user_ids), envelope.frame)
            case PresenceChange():
                self._tell_presence(envelope)
            case Revoked():
                self._revoke(envelope)
            case BlocksChanged():
                self._on_blocks_changed()
            case Poke():
                for channel_id in envelope.channel_ids:
                    room = self.rooms.get(channel_id)
                    if room is not None:
                        self._on_behind(room)

    def healed(self, events: Iterable[Event], frames: Iterable[bytes]) -> None:
        """What was read from the store."""
        for event, frame in zip(events, frames, strict=True):
            self._take(event.channel_id, event.seq, frame, event.kind in MEMBERSHIP_KINDS)

    def _take(self, channel_id: str, seq: int, frame: bytes, membership: bool, foreign: bool = False) -> None:
        room = self.rooms.get(channel_id)
        if room is None:
            if membership:
                self._maybe_open(channel_id, seq, frame)
            return
        if foreign and self._appender.writes_to(channel_id):
            self._appender.saw(_event_decoder.decode(frame))
        # The last one here may leave by this event and be back by one that is held behind it.
        room.pins += 1
        try:
            if not room.take(seq, frame, membership, self._deliver):
                self._on_behind(room)
        finally:
            room.pins -= 1
        if not room.clients:
            self.drop_if_empty(channel_id)

    def _maybe_open(self, channel_id: str, seq: int, frame: bytes) -> None:
        """A membership event of a channel nobody here was in: it may name people who are connected here."""
        event = _event_decoder.decode(frame)
        if event.kind in (EventKind.CREATED, EventKind.JOIN) and any(
            u in self.users for u in event.users or ()
        ):
            room = self.room(channel_id)
            room.last_seq = seq - 1
            room.take(seq, frame, True, self._deliver)
            self._on_room_opened(channel_id)

    def _deliver(self, room: Room, seq: int, frame: bytes, membership: bool) -> None:
        if not membership:
            self.deliveries += room.write_events([frame])
            return
        event = _event_decoder.decode(frame)
        room.members_seq = seq
        users = event.users or []
        if event.kind in (EventKind.CREATED, EventKind.JOIN):
            room.member_count += len(users)
            for client in self._clients_of(users):
                self.attach(client, room)
        self.deliveries += room.write_events([frame])
        if event.kind in (EventKind.LEAVE, EventKind.BAN):
            room.member_count -= len(users)
            for client in self._clients_of(users):
                self.detach(client, room.channel_id)

    # --- frames that are no events ------------------------------------------------------------------------

    def _clients_of(self, user_ids: Iterable[str]) -> list[Client]:
        return [client for user_id in user_ids for client in self.users.get(user_id, ())]

    def _write_to(self, clients: Iterable[Client], payload: bytes) -> None:
        text, binary = text_frame(payload), None
        for client in clients:
            if client.connection.binary:
                if binary is None:
                    binary = binary_frame(encode_msgpack(decode_server_json(payload)))
                client.connection.write(binary)
            else:
                client.connection.write(text)

    def _tell_presence(self, change: PresenceChange) -> None:
        """One frame per client, by however many ways it is concerned; the person's own clients know."""
        told: dict[Client, None] = dict.fromkeys(self._clients_of(change.user_ids))
        for channel_id in change.channel_ids:
            room = self.rooms.get(channel_id)
            if room is not None:
                told.update(room.clients)
        told.update(dict.fromkeys(self.watchers.get(change.user_id, ())))
        silent = {change.user_id, *change.hidden_from}
        self._write_to([client for client in told if client.user_id not in silent], change.frame)

    def _revoke(self, revoked: Revoked) -> None:
        for client in self._clients_of([revoked.user_id]):
            if client.device_id in revoked.device_ids:
                client.connection.close(Close.DEVICE_REVOKED, "device revoked")
