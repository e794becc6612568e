"""MongoDB: mongo-java-server, which keeps all in memory, or the deployment that MONGODB_URI names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import psutil
from pymongo import MongoClient
from support.mongo.chosen import VARIABLE, MongoKind, chosen, with_database
from support.mongo.java_build import built_jar
from support.mongo.java_server import OPTIONS, JavaMongo

from bench.storage.calls import verify
from bench.storage.shape import Channel, Shape, State, Stream
from bench.storage.store import LeftOut, Measured
from chatkernel.protocol import Event, Role
from chatkernel.storage.mongo import open_mongo
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, document_of
from chatkernel.storage.mongo.membership import State as Standing

T = TypeVar("T")

HEAP_GIB = 2
JAVA_MOST = 10_000
"""Events. mongo-java-server has unique indexes, and reads through none of several fields: a page takes tens of
milliseconds here, seconds at a million, and the adapter gives up after five (here it is told to be more patient)."""
JAVA_TIMEOUT_MS = 60_000
DATABASE = "chatcluster_bench"
_AT_ONCE = 2_000


class MongoMeasured(Measured):
    name = "mongo"

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._choice = chosen()
        self._java: JavaMongo | None = None
        self.words = f"MongoDB's protocol: {self._choice.words}"
        if self._choice.kind is MongoKind.JAVA:
            self.words += (
                " (all in memory; its reads use no index of several fields: they say nothing of MongoDB)"
            )

    @property
    def no_channels(self) -> str:
        if self._choice.kind is not MongoKind.JAVA:
            return ""
        return "mongo-java-server looks at all memberships for each sender's mark, and does not keep up"

    async def prepare(self, size: int) -> float:
        """Nothing is kept: in memory there is nothing to keep, and somebody's deployment is left as it was."""
        if self._choice.kind is MongoKind.JAVA:
            if size > JAVA_MOST:
                raise LeftOut(
                    "mongo-java-server reads all events for a page: more of them are beyond the adapter's"
                    f" deadline. {VARIABLE} takes a deployment of yours"
                )
            self.close()
            heap = f"-Xmx{HEAP_GIB}g"
            self._java = JavaMongo(
                built_jar(), [heap if each.startswith("-Xmx") else each for each in OPTIONS]
            )
            self._java.start()
        elif self._choice.kind is not MongoKind.URI:
            raise LeftOut(self._choice.words)
        started = time.monotonic()
        await verify(self._url(), self._shape, await load(self._url(), self._shape, size))
        return time.monotonic() - started

    @contextmanager
    def copy(self, size: int) -> Iterator[str]:
        try:
            yield self._url()
        finally:
            if self._choice.kind is MongoKind.URI:
                self._drop()
            self.close()

    def disk_bytes(self, size: int) -> int:
        if self._choice.kind is not MongoKind.URI:
            return 0
        with MongoClient[Document](self._url()) as client:
            return int(client[DATABASE].command("dbStats")["totalSize"])

    def processes(self) -> Iterable[psutil.Process]:
        return [] if self._java is None else [psutil.Process(self._java.pid)]

    def close(self) -> None:
        if self._java is not None:
            self._java.stop()
            self._java = None

    def _url(self) -> str:
        if self._java is None:
            return with_database(os.environ[VARIABLE], DATABASE)
        return with_database(self._java.url, DATABASE) + f"?timeoutMS={JAVA_TIMEOUT_MS}"

    def _drop(self) -> None:
        with MongoClient[Document](self._url()) as client:
            client.drop_database(DATABASE)


async def load(url: str, shape: Shape, size: int) -> Stream:
    """Indexes as `ensure_schema` makes them, and the documents as the adapter leaves them."""
    store = await open_mongo(url)
    try:
        await store.ensure_schema()
        collections, stream = store._collections, Stream(shape, size)
        begun = [(run.events[0], run.channel) for run in shape.begin()]
        await collections.events.insert_many([document_of(*each) for each in begun])
        for batch in _batches(stream.events()):
            await collections.events.insert_many([document_of(event, None) for event in batch], ordered=False)
        await _follow(collections, shape, stream, [event for event, _ in begun])
    finally:
        await store.aclose()
    return stream


async def _follow(collections: Collections, shape: Shape, stream: Stream, begun: list[Event]) -> None:
    """What the adapter would have written behind the log."""
    members: list[Document] = []
    for channel, state, event in zip(shape.channels, stream.states, begun, strict=True):
        await collections.channels.insert_one(_channel(channel, state, event))
        members += [_member(channel, state, user_id) for user_id in channel.members]
    for some in _batches(members):
        await collections.memberships.insert_many(some, ordered=False)
    reactions: Iterable[Document] = (
        {
            "channel_id": each.channel_id,
            "message_id": each.message_id,
            "emoji": each.emoji,
            "user_id": each.user_id,
            "active": True,
            "seq": each.seq,
            "since_seq": each.seq,
        }
        for each in stream.reactions
    )
    for some in _batches(reactions):
        await collections.reactions.insert_many(some, ordered=False)


def _channel(channel: Channel, state: State, event: Event) -> Document:
    return {
        "_id": channel.channel_id,
        "kind": "group",
        "name": event.name,
        "history_from_start": True,
        "created_at": event.created_at,
        "members_seq": 1,
        "member_count": len(channel.members),
        "head_seq": state.seq,
        "head_message_id": state.message_id,
        "head_messages": state.messages,
        "message_seq": state.message_seq,
    }


def _member(channel: Channel, state: State, user_id: str) -> Document:
    creator = user_id == channel.members[0]
    read_seq, read_messages = state.read.get(user_id, (1 if creator else 0, 0))
    return {
        "channel_id": channel.channel_id,
        "user_id": user_id,
        "state": Standing.MEMBER.value,
        "seq": 1,
        "role": (Role.OWNER if creator else Role.MEMBER).value,
        "joined_seq": 1,
        "from_seq": 0,
        "read_seq": read_seq,
        "delivered_seq": read_seq,
        "read_messages": read_messages,
        "muted_until": 0,
        "pinned": False,
        "archived": False,
    }


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while some := list(islice(source, _AT_ONCE)):
        yield some
