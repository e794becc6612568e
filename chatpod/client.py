"""A logged-in client as the hub sees it: who it is, its outbox, and the channels that are live for it."""

from __future__ import annotations

from chatkernel.messaging import Actor
from chatkernel.protocol import ServerFrame, decode_server_json, encode_json, encode_msgpack
from chatpod.connection import Connection, binary_frame, text_frame


class Client:
    """`rooms` are the channels that are live for it; the hub alone changes them."""

    __slots__ = (
        "actor",
        "beat_at",
        "connection",
        "device_id",
        "migrating",
        "opening",
        "rooms",
        "session_id",
        "user_id",
        "watched",
    )

    def __init__(self, session_id: str, actor: Actor, connection: Connection, now_s: float) -> None:
        self.session_id, self.actor = session_id, actor
        self.user_id, self.device_id = actor.user_id, actor.device_id
        self.connection = connection
        self.rooms: set[str] = set()
        self.watched: frozenset[str] | None = None
        self.beat_at = now_s
        """When it was last heard of (monotonic seconds)."""
        self.migrating = False
        self.opening = True

    def send_payload(self, payload: bytes) -> None:
        """A ready JSON frame."""
        if self.connection.binary:
            self.connection.write(binary_frame(encode_msgpack(decode_server_json(payload))))
        else:
            self.connection.write(text_frame(payload))

    def send(self, frame: ServerFrame) -> None:
        if self.connection.binary:
            self.connection.write(binary_frame(encode_msgpack(frame)))
        else:
            self.connection.write(text_frame(encode_json(frame)))
