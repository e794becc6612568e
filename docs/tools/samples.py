"""Representative documents, made by the MongoDB adapter itself on the tests' scripted server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bson
from msgspec import Struct

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from support.mongo.scripted import scripted_server

from chatkernel.message_ids import message_id_at
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import (
    ChannelInfo,
    ChannelKind,
    Device,
    FriendAction,
    Job,
    JobKind,
    Run,
    User,
    Watermark,
)
from chatkernel.storage.mongo.schema import COLLECTIONS
from chatkernel.storage.mongo.store import MongoStore, open_mongo

TEXT_BYTES = 100
"""Of a message: what people write is mostly shorter."""
CHUNK_BYTES = 64 * 1024
"""Of an archive; all but the last are larger."""
AT_MS = 1_790_000_000_000
CHANNEL = "local_g0123456789abcdef01234567"
ANN, BOB = "u_0123456789abcdef", "u_fedcba9876543210"
PASSWORD_HASH = "$argon2id$v=19$m=65536,t=3,p=4$" + "s" * 22 + "$" + "h" * 43
"""As long as a real one."""


class Sample(Struct, frozen=True):
    """BSON bytes of the document, of its `_id`, and of the key of each index by its name."""

    document: int
    identity: int
    keys: dict[str, int]


class Scenario(Struct, frozen=True):
    """`events` and `memberships` by what they are; other collections by their name."""

    samples: dict[str, Sample]
    commands: list[Mapping[str, Any]]
    """What the adapter asked of the server."""


async def scenario() -> Scenario:
    async with scripted_server() as server:
        store = await open_mongo(f"mongodb://{server.host}/chat")
        try:
            await _live(store)
        finally:
            await store.aclose()
        samples = {}
        for spec in COLLECTIONS:
            documents = server.store.documents(f"chat.{spec.name}")
            for name, document in _chosen(spec.name, documents).items():
                keys = {
                    index.name: _size({field: document.get(field) for field in index.fields})
                    for index in spec.indexes
                }
                samples[name] = Sample(_size(document), _size({"_id": document["_id"]}), keys)
        return Scenario(samples, list(server.commands))


def _size(document: Mapping[str, Any]) -> int:
    return len(bson.encode(dict(document)))


def _chosen(collection: str, documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """One that stands for all; of events one of each kind that there are many of."""
    if not documents:
        return {}
    if collection != "events":
        return {collection: documents[0]}
    by_kind = {each["kind"]: each for each in documents if "edited_text" not in each}
    return {
        "events": by_kind["message"],
        **{f"events: {kind}": document for kind, document in by_kind.items() if kind != "message"},
    }


async def _live(store: MongoStore) -> None:
    """What people do, each once, and what is read for it."""
    await store.ensure_schema()
    for number, user_id in enumerate((ANN, BOB)):
        await store.create_user(User(user_id, f"ann.of.{number}", "Ann Other", AT_MS), PASSWORD_HASH)
        device = Device(f"d_{number}123456789abcdef", user_id, "Ann's phone", AT_MS, AT_MS)
        await store.add_device(device, 50)
        await store.put_refresh(f"{number}" * 64, user_id, device.device_id, AT_MS)
    await store.rotate_refresh("0" * 64, "2" * 64, AT_MS - 1, AT_MS)
    await store.friend_action(ANN, BOB, FriendAction.REQUEST, AT_MS, 100)
    await store.friend_action(BOB, ANN, FriendAction.ACCEPT, AT_MS, 100)
    await store.put_settings(ANN, {"theme": "dark", "language": "en"}, 0)
    await _talk(store)
    await _look(store)
    await _work(store)


async def _talk(store: MongoStore) -> None:
    drafts: list[tuple[EventKind, dict[str, Any]]] = [
        (EventKind.CREATED, {"users": [ANN, BOB], "name": "Friends"}),
        (EventKind.MESSAGE, {"text": "m" * TEXT_BYTES}),
        (EventKind.MESSAGE, {"text": "n" * TEXT_BYTES}),
        (EventKind.REACTION, {"target_id": message_id_at(AT_MS + 3000), "emoji": "👍", "on": True}),
        (EventKind.EDIT, {"target_id": message_id_at(AT_MS + 2000), "text": "e" * TEXT_BYTES}),
        (EventKind.RENAME, {"name": "Good friends"}),
        (EventKind.ROLE, {"users": [BOB], "role": "admin"}),
    ]
    messages = 0
    for seq, (kind, fields) in enumerate(drafts, start=1):
        at = AT_MS + seq * 1000
        event = Event(
            CHANNEL, seq, message_id_at(at), kind, ANN, f"{seq}" * 20, at, messages, 1, **_typed(fields)
        )
        messages += kind is EventKind.MESSAGE
        info = ChannelInfo(CHANNEL, ChannelKind.GROUP, "Friends", True) if seq == 1 else None
        await store.insert([Run(CHANNEL, (event,), info)])
    await store.put_watermarks([Watermark(CHANNEL, BOB, 3, 4)])


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    from chatkernel.protocol import Role

    return {name: Role(value) if name == "role" else value for name, value in fields.items()}


async def _work(store: MongoStore) -> None:
    """What the worker's jobs do, as far as it takes nothing away."""
    job = await store.put_job(Job("j_0123456789abcdef", JobKind.EXPORT, ANN, AT_MS))
    claimed = await store.claim_job(AT_MS, AT_MS + 1000) or job
    await store.put_chunk(claimed.job_id, claimed.attempt, 0, b"c" * CHUNK_BYTES)
    await store.chunk(claimed.job_id, claimed.attempt, 0)
    await store.keep_job(claimed)
    await store.job(claimed.job_id)
    await store.job_of(JobKind.EXPORT, ANN)
    await store.jobs(10)
    await store.ended_jobs(AT_MS, 10)
    await store.kept_channels("", 10)
    await store.expire(CHANNEL, 0, 10)
    await store.wrote_in(ANN, [CHANNEL])
    await store.sent(CHANNEL, ANN, "", 10)


async def _look(store: MongoStore) -> None:
    from chatkernel.storage.model import EventRange, PageQuery, SendKey

    await store.heads([CHANNEL])
    await store.events([EventRange(CHANNEL, 0, 10)])
    await store.find_sent([SendKey(CHANNEL, ANN, "2" * 20)])
    for as_of_now in (False, True):
        await store.message_ids([(CHANNEL, 2)], as_of_now=as_of_now)
    for query in ({}, {"before": 4}, {"after": 1}, {"around": message_id_at(AT_MS + 2000)}, {"at": AT_MS}):
        await store.page(PageQuery(CHANNEL, 0, 10, **query))
    await store.message(CHANNEL, message_id_at(AT_MS + 2000))
    await store.grant(CHANNEL, ANN)
    await store.grants_of([ANN])
    await store.channels_of([ANN])
    await store.channel_counts([ANN])
    await store.member_counts([CHANNEL])
    await store.channel(CHANNEL)
    await store.members(CHANNEL)
    await store.conversations(ANN, cursor=None, limit=10, archived=False)
    await store.conversation_prefs(CHANNEL, ANN, muted_until=None, pinned=True, archived=None)
    await store.unread(ANN, [CHANNEL])
    await store.users([ANN])
    await store.user_by_name("ann.of.0")
    await store.credentials("ann.of.0")
    await store.devices(ANN)
    await store.live_devices(["d_0123456789abcdef"])
    await store.friends(ANN)
    await store.friend_ids([ANN])
    await store.blocked_between(ANN, BOB)
    await store.blocked_channels([CHANNEL])
    await store.blockers(ANN, [BOB])
    await store.blocked_by([ANN])
    await store.settings(ANN)
    await store.revoke_devices(ANN, None, AT_MS)
