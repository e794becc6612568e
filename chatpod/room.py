"""A channel on one pod: who is connected, and how far its log has been delivered here.

Events go out in order of seq and each once. One that comes too early is held until what is before it came by the
bus or was read from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatkernel.protocol import ChannelHead, decode_server_json, encode_msgpack
from chatkernel.storage.model import Head
from chatpod.client import Client
from chatpod.connection import binary_frame, text_frame

EARLY_MAX = 512
"""Events held out of order per channel; more are read from the store when their turn comes."""


class Room:
    __slots__ = (
        "_early",
        "_records",
        "binary",
        "channel_id",
        "checked",
        "clients",
        "head",
        "heal_wanted",
        "last_seq",
        "member_count",
        "members_seq",
        "pins",
    )

    def __init__(self, channel_id: str) -> None:
        self.channel_id = channel_id
        self.clients: dict[Client, None] = {}
        self.binary = 0
        """How many of them speak MessagePack."""
        self.last_seq: int | None = None
        """None until the head has been read: the room is opening."""
        self.head = Head()
        """As last read from the store: what is told live leaves it behind."""
        self.checked = Head()
        """The same, as the healer last compared it with the log: it tells whether that is still the same one."""
        self.members_seq = 0
        self.member_count = 0
        self.pins = 0
        """Clients that are about to come in: the room stays open for them."""
        self._early: dict[int, tuple[bytes, bool]] | None = None
        self._records: list[list[bytes]] | None = None
        self.heal_wanted = 0
        """The highest seq that is known to exist and was not delivered."""

    def add(self, client: Client) -> None:
        if client not in self.clients:
            self.clients[client] = None
            self.binary += client.connection.binary

    def remove(self, client: Client) -> None:
        if client in self.clients:
            del self.clients[client]
            self.binary -= client.connection.binary

    def take(
        self, seq: int, frame: bytes, membership: bool, deliver: Callable[[Room, int, bytes, bool], None]
    ) -> bool:
        """An event from the bus, the store or this pod. False: something before it is missing."""
        last = self.last_seq
        if last is None:
            self.heal_wanted = max(self.heal_wanted, seq)
            if membership:
                self._hold(seq, frame, membership)
            return True
        if seq <= last:
            return True
        if seq > last + 1:
            self.heal_wanted = max(self.heal_wanted, seq)
            self._hold(seq, frame, membership)
            return False
        self.last_seq = seq
        deliver(self, seq, frame, membership)
        while self._early:
            held = self._early.pop(self.last_seq + 1, None)
            if held is None:
                self._early = {s: f for s, f in self._early.items() if s > self.last_seq} or None
                break
            self.last_seq += 1
            deliver(self, self.last_seq, *held)
            if not self._early:
                self._early = None
        return self.heal_wanted <= self.last_seq

    def _hold(self, seq: int, frame: bytes, membership: bool) -> None:
        if self._early is None:
            self._early = {}
        if len(self._early) < EARLY_MAX:
            self._early[seq] = (frame, membership)

    def open_at(self, head: Head) -> None:
        """The head as read from the store: events after it are live. So are changes of membership that came while it
        was read, for they may bring in somebody who is connected here."""
        self.head = head
        if not self.checked.seq:
            self.checked = head
        if self.last_seq is None or head.seq > self.last_seq:
            self.last_seq = min([head.seq, *(seq - 1 for seq in self._early or ())])
            self.members_seq = head.members_seq

    def begin_anew(self, head: Head) -> None:
        """What was told here is not in the log any more."""
        self.head = self.checked = head
        self.last_seq, self.members_seq, self.heal_wanted = head.seq, head.members_seq, 0
        self._early = None

    def head_for(self, cursor: int = 0, first_seq: int = 0) -> ChannelHead:
        """Where a client stands that has everything: with a cursor that may be ahead of what was told here."""
        seq = max(self.last_seq or 0, cursor)
        return ChannelHead(seq, self.head.message_id if seq == self.head.seq else 0, first_seq=first_seq)

    def skip_to(self, seq: int) -> None:
        """What is up to this seq is no longer in the store: retention was quicker than this pod."""
        if self.last_seq is not None and self.last_seq < seq:
            self.last_seq = seq

    def vouches_for(self, seq: int, message_id: int) -> bool:
        """Whether a client's cursor is of this log, as far as that is known here."""
        if self.last_seq is None or seq > self.last_seq:
            return False
        return message_id == 0 or (seq, message_id) == (self.head.seq, self.head.message_id)

    @property
    def behind(self) -> bool:
        return self.last_seq is not None and self.heal_wanted > self.last_seq

    def record(self) -> list[bytes]:
        """Begin to note the event frames that go out from now on, for a client that is catching up."""
        notes: list[bytes] = []
        if self._records is None:
            self._records = []
        self._records.append(notes)
        return notes

    def stop_recording(self, notes: list[bytes]) -> None:
        self._records = [other for other in self._records or () if other is not notes] or None

    @property
    def holds_early(self) -> bool:
        return self._early is not None

    def write_events(self, payloads: Sequence[bytes]) -> int:
        """Send events of the log, in order, to all clients here; how many deliveries that is."""
        if self._records is not None:
            for notes in self._records:
                notes.extend(payloads)
        return self._write(payloads)

    def write(self, payload: bytes) -> int:
        """Send a ready JSON frame that is in no log to all clients here; how many."""
        return self._write((payload,))

    def _write(self, payloads: Sequence[bytes]) -> int:
        text = b"".join([text_frame(payload) for payload in payloads])
        if self.binary == 0:
            for client in self.clients:
                client.connection.write(text)
        else:
            binary = b"".join(
                [binary_frame(encode_msgpack(decode_server_json(payload))) for payload in payloads]
            )
            for client in self.clients:
                client.connection.write(binary if client.connection.binary else text)
        return len(self.clients) * len(payloads)
