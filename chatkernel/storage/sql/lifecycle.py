"""The port Lifecycle on SQL: what retention and erasure remove, one bounded batch per transaction."""

# ruff: noqa: S608 - constants of this module are joined; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import Connection, delete, insert, or_, select, update

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.erased import WRITTEN_KINDS, subject_digest, username_digest
from chatkernel.storage.model import Blanked, Expired, Keeping
from chatkernel.storage.sql.accounts import name_group, subject_group
from chatkernel.storage.sql.rows import EVENT_COLUMNS, STATE_COLUMNS, item_of
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import (
    blocks,
    channels,
    devices,
    edits,
    erased,
    events,
    friends,
    reactions,
    refresh_tokens,
    subjects,
    user_settings,
    users,
)
from chatkernel.storage.sql.statements import Query

_wrote_in = Query(
    "channel_id",
    "SELECT k.channel_id FROM {values} k WHERE EXISTS (SELECT 1 FROM events e WHERE e.channel_id = k.channel_id"
    " AND e.sender_id = :user_id AND e.kind IN ('message', 'edit', 'reaction'))",
    values="channel_id",
)

_sent = Query(
    f"{EVENT_COLUMNS}, {STATE_COLUMNS}",
    f"SELECT {EVENT_COLUMNS}, {STATE_COLUMNS} FROM events WHERE channel_id = :channel_id"
    " AND sender_id = :user_id AND client_msg_id > :after ORDER BY client_msg_id LIMIT :limit",
)


def kept_channels(conn: Connection, after: str, limit: int) -> list[Keeping]:
    c = channels.c
    page = select(c.channel_id, c.retention_s).where(c.channel_id > after)
    return [Keeping(*row) for row in conn.execute(page.order_by(c.channel_id).limit(limit))]


def expire(conn: Connection, channel_id: str, before_id: int, limit: int) -> Expired:
    mine = channels.c.channel_id == channel_id
    row = conn.execute(select(channels.c.floor_seq, channels.c.head_seq).where(mine)).first()
    if row is None:
        return Expired(0, 0, False)
    floor_seq, head_seq = row
    e = events.c
    oldest = select(e.seq, e.message_id, e.messages_before, e.kind).where(
        e.channel_id == channel_id, e.seq > floor_seq
    )
    found = conn.execute(oldest.order_by(e.seq).limit(limit)).all()
    old = list(takewhile(lambda each: each.message_id < before_id, found))
    if not old:
        return Expired(floor_seq, 0, False)
    last = old[-1]
    messages = last.messages_before + (last.kind == EventKind.MESSAGE.value)
    conn.execute(update(channels).where(mine).values(floor_seq=last.seq, floor_messages=messages))
    _forget_what_hangs_on(conn, channel_id, old[0].message_id, last.message_id)
    conn.execute(
        delete(events).where(e.channel_id == channel_id, e.seq <= last.seq, e.seq != head_seq),
    )
    if last.seq == head_seq:
        anchor = {
            "text": None,
            "metadata": None,
            "edited_text": None,
            "reply_to": None,
            "deleted_seq": head_seq,
        }
        conn.execute(update(events).where(e.channel_id == channel_id, e.seq == head_seq).values(anchor))
    return Expired(last.seq, len(old), len(old) == limit)


def _forget_what_hangs_on(conn: Connection, channel_id: str, low_id: int, high_id: int) -> None:
    """Of messages with these ids: their reactions, and the texts that later events hold of them."""
    r, d, e = reactions.c, edits.c, events.c
    texts = select(d.seq).where(d.channel_id == channel_id, d.target_id.between(low_id, high_id))
    conn.execute(
        update(events).where(e.channel_id == channel_id, e.seq.in_(texts)).values(text=None, metadata=None)
    )
    conn.execute(delete(edits).where(d.channel_id == channel_id, d.target_id.between(low_id, high_id)))
    conn.execute(delete(reactions).where(r.channel_id == channel_id, r.message_id.between(low_id, high_id)))


def wrote_in(conn: Connection, user_id: str, channel_ids: Sequence[str]) -> list[str]:
    keys = [(channel_id,) for channel_id in channel_ids]
    found = {row[0] for row in _wrote_in.rows_for(conn, keys, {"user_id": user_id})}
    return [channel_id for channel_id in channel_ids if channel_id in found]


def blank(conn: Connection, channel_id: str, user_id: str, after: str, limit: int) -> Blanked:
    e, r = events.c, reactions.c
    theirs = select(e.client_msg_id, e.seq, e.kind, e.target_id).where(
        e.channel_id == channel_id, e.sender_id == user_id, e.client_msg_id > after
    )
    page = conn.execute(theirs.order_by(e.client_msg_id).limit(limit)).all()
    found = [each for each in page if each.kind in WRITTEN_KINDS]
    if not found:
        return Blanked(page[-1].client_msg_id if page else after, 0, len(page) == limit)
    seqs = {kind: [each.seq for each in found if each.kind == kind] for kind in WRITTEN_KINDS}
    here = update(events).where(e.channel_id == channel_id)
    empty = {"text": None, "metadata": None, "edited_text": None}
    conn.execute(
        here.where(e.seq.in_(seqs["message"]), e.deleted_seq.is_(None)).values(
            deleted_seq=events.c.seq, **empty
        )
    )
    conn.execute(here.where(e.seq.in_(seqs["edit"])).values(text=None, metadata=None))
    conn.execute(here.where(e.seq.in_(seqs["reaction"])).values(extra=None))
    targets = sorted({each.target_id for each in found if each.kind == EventKind.REACTION.value})
    conn.execute(
        delete(reactions).where(r.channel_id == channel_id, r.message_id.in_(targets), r.user_id == user_id)
    )
    return Blanked(page[-1].client_msg_id, len(found), len(page) == limit)


def sent(conn: Connection, channel_id: str, user_id: str, after: str, limit: int) -> list[Event]:
    params = {"channel_id": channel_id, "user_id": user_id, "after": after, "limit": limit}
    return [item_of(row, None).event for row in _sent.rows(conn, params)]


def lock_person(conn: Connection, user_id: str) -> None:
    mine = users.c.user_id == user_id
    conn.execute(update(users).where(mine).values(suspended=True, password_hash=""))
    conn.execute(delete(refresh_tokens).where(refresh_tokens.c.user_id == user_id))


def _names_of(conn: Connection, user_id: str) -> list[str]:
    """What sign-ups under this person's names are about."""
    username = conn.execute(select(users.c.username).where(users.c.user_id == user_id)).scalar()
    known = select(subjects.c.issuer, subjects.c.subject).where(subjects.c.user_id == user_id)
    of_issuers = [subject_group(row.issuer, row.subject) for row in conn.execute(known)]
    return of_issuers if username is None else [*of_issuers, name_group(username)]


def forget_person(conn: Connection, user_id: str, at: int) -> None:
    key = conn.execute(select(users.c.username_key).where(users.c.user_id == user_id)).scalar()
    known = select(subjects.c.issuer, subjects.c.subject).where(subjects.c.user_id == user_id)
    digests = [subject_digest(row.issuer, row.subject) for row in conn.execute(known)]
    if key is not None:
        digests.append(username_digest(key))
    for digest in digests:
        conn.execute(delete(erased).where(erased.c.digest == digest))
        conn.execute(insert(erased).values(digest=digest, at=at))
    for table in (refresh_tokens, devices, user_settings, subjects):
        conn.execute(delete(table).where(table.c.user_id == user_id))
    for table in (friends, blocks):
        conn.execute(delete(table).where(or_(table.c.user_id == user_id, table.c.other_id == user_id)))
    conn.execute(delete(users).where(users.c.user_id == user_id))


class SqlLifecycle:
    _db: Runner

    async def kept_channels(self, after: str, limit: int) -> list[Keeping]:
        return await self._db.read(lambda conn: kept_channels(conn, after, limit))

    async def expire(self, channel_id: str, before_id: int, limit: int) -> Expired:
        return await self._db.write(
            lambda conn: expire(conn, channel_id, before_id, limit), about=[f"floor {channel_id}"]
        )

    async def wrote_in(self, user_id: str, channel_ids: Sequence[str]) -> list[str]:
        return await self._db.read(lambda conn: wrote_in(conn, user_id, channel_ids)) if channel_ids else []

    async def blank(self, channel_id: str, user_id: str, after: str, limit: int) -> Blanked:
        return await self._db.write(lambda conn: blank(conn, channel_id, user_id, after, limit))

    async def sent(self, channel_id: str, user_id: str, after: str, limit: int) -> list[Event]:
        return await self._db.read(lambda conn: sent(conn, channel_id, user_id, after, limit))

    async def forget_marks(self, user_id: str) -> None:
        """A membership that has ended leaves nothing here."""

    async def forget_person(self, user_id: str, at: int) -> None:
        # A name, and an issuer's subject, may not be free for a moment between the account and its digest.
        named = await self._db.read(lambda conn: _names_of(conn, user_id))
        await self._db.write(
            lambda conn: forget_person(conn, user_id, at),
            about=[*named, f"devices {user_id}", f"friends {user_id}", f"settings {user_id}"],
        )

    async def lock_person(self, user_id: str) -> None:
        await self._db.write(lambda conn: lock_person(conn, user_id), about=[f"devices {user_id}"])
