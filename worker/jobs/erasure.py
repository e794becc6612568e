"""Erasure of a person, in phases that each may be cut off and are done again.

1. account: devices, tokens, profile, settings, friends and blocks, names; an archive of theirs.
2. presence: what Redis holds; sockets that are still open.
3. channels: they leave every channel by an event; a group of theirs passes on first.
4. messages: in every channel that they ever wrote in, their messages become tombstones, and one event says so.
5. check: after a while, for what another process was about to write when all this began, the same once more.

Nobody can append as them once they have left, for the log itself says so; what was appended before is found.
"""

from __future__ import annotations

import time
from enum import StrEnum

import msgspec
from msgspec import Struct

from chatkernel.appender import Appender
from chatkernel.backlog import DEADLINE_S
from chatkernel.bus import Bus, Post, Revoked, UserFrame
from chatkernel.channels import RANK
from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs, new_client_msg_id
from chatkernel.jobs import ENDED_HOLD_MS
from chatkernel.message_ids import MAX_MESSAGE_ID
from chatkernel.presence import PresenceStore
from chatkernel.presence_news import audiences_now, presence_post
from chatkernel.protocol import (
    EventKind,
    Notice,
    NoticeTopic,
    PresenceEntry,
    PresenceState,
    Role,
    encode_json,
)
from chatkernel.storage.model import ChannelKind, Grant, Job, JobKind, JobState, Member
from chatkernel.storage.store import Store
from worker.jobs.runner import BATCH_S

CHANNELS_LEFT_PER_BATCH = 50
CHANNELS_PER_BATCH = 200
EVENTS_PER_BATCH = 500
SETTLE_S = 2 * DEADLINE_S
"""Longer than anything that was under way when the account was locked can still be tried."""


class Phase(StrEnum):
    ACCOUNT = "account"
    PRESENCE = "presence"
    CHANNELS = "channels"
    MESSAGES = "messages"
    CHECK = "check"


class _Cursor(Struct, frozen=True, omit_defaults=True):
    phase: Phase = Phase.ACCOUNT
    device_ids: list[str] = []
    friend_ids: list[str] = []
    archive_id: str = ""
    """The job of an archive of theirs: another worker may be about to store a piece of it."""
    after: str = ""
    """The last channel that is done."""
    channel_id: str = ""
    """The one that is under way, and what of it is done."""
    sent_after: str = ""
    last_round: bool = False


_cursor = msgspec.json.Decoder(_Cursor)


class Erasure:
    """Never gives up: what was asked for is done, however long a store is away."""

    gives_up_after = 0

    def __init__(
        self,
        store: Store,
        appender: Appender,
        bus: Bus,
        presence: PresenceStore,
        *,
        now: NowMs,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._store, self._appender, self._bus, self._presence = store, appender, bus, presence
        self._now, self._settle_ms = now, int(settle_s * 1000)
        self.blanked = 0

    async def batch(self, job: Job) -> Job:
        """Raises ChatError."""
        cursor = _cursor.decode(job.cursor) if job.cursor else _Cursor()
        match cursor.phase:
            case Phase.ACCOUNT:
                return _at(job, await self._account(job, cursor))
            case Phase.PRESENCE:
                await self._gone_offline(job.subject, cursor)
                return _at(job, _begin(Phase.CHANNELS, cursor))
            case Phase.CHANNELS:
                return _at(job, await self._channels(job, cursor))
            case Phase.MESSAGES:
                return await self._messages(job, cursor)
            case _:
                return _at(job, _begin(Phase.ACCOUNT, cursor, last_round=True))

    async def failed(self, job: Job) -> Job:
        return job

    # --- the account and what stands round it ---------------------------------------------------------------

    async def _account(self, job: Job, cursor: _Cursor) -> _Cursor:
        """What is needed to tell others is noted first: after this it cannot be read any more."""
        user_id, at = job.subject, self._now()
        archive = await self._store.job_of(JobKind.EXPORT, user_id)
        if not cursor.device_ids and not cursor.friend_ids:
            devices = [device.device_id for device in await self._store.devices(user_id)]
            friends = (await self._store.friend_ids([user_id]))[user_id]
            archive_id = cursor.archive_id if archive is None else archive.job_id
            if devices or friends or archive_id != cursor.archive_id:
                return msgspec.structs.replace(
                    cursor, device_ids=devices, friend_ids=friends, archive_id=archive_id
                )
        await self._store.lock_person(user_id)
        await self._store.revoke_devices(user_id, None, at)
        await self._store.forget_person(user_id, at)
        if archive is not None:
            await self._store.drop_job(archive)
        if cursor.archive_id:
            await self._store.drop_chunks(cursor.archive_id)
        return msgspec.structs.replace(cursor, phase=Phase.PRESENCE)

    async def _gone_offline(self, user_id: str, cursor: _Cursor) -> None:
        kept = await self._presence.audience([user_id])
        audience = (await audiences_now(self._store, [user_id], kept))[user_id]
        posts = [presence_post(PresenceEntry(user_id, PresenceState.OFFLINE), audience)]
        posts.append(Post(Revoked(user_id, cursor.device_ids), users=(user_id,)))
        for friend_id in cursor.friend_ids:
            notice = encode_json(Notice(NoticeTopic.FRIENDS, user_id=user_id))
            posts.append(Post(UserFrame([friend_id], notice), users=(friend_id,)))
        await self._bus.publish(posts)
        await self._presence.forget(user_id)

    # --- memberships -----------------------------------------------------------------------------------------

    async def _channels(self, job: Job, cursor: _Cursor) -> _Cursor:
        grants = (await self._store.grants_of([job.subject]))[job.subject]
        until = time.monotonic() + BATCH_S
        for grant in grants[:CHANNELS_LEFT_PER_BATCH]:
            await self._leave(grant)
            if time.monotonic() > until:
                break
        if grants:
            return cursor
        await self._store.forget_marks(job.subject)
        return msgspec.structs.replace(cursor, phase=Phase.MESSAGES)

    async def _leave(self, grant: Grant) -> None:
        if grant.kind is ChannelKind.GROUP and grant.role is Role.OWNER and grant.member_count > 1:
            await self._hand_over(grant)
        try:
            await self._append(grant.channel_id, grant.user_id, EventKind.LEAVE, grant.members_seq)
        except ChatError as error:
            # Somebody has removed them at the same moment.
            if error.code not in (Code.CHANNEL_NOT_FOUND, Code.BANNED):
                raise

    async def _hand_over(self, grant: Grant) -> None:
        """To the admin who has been in the group for longest, or else the member."""
        members = await self._store.members(grant.channel_id, limit=100_000)
        others = [member for member in members if member.user_id != grant.user_id]
        if not others:
            return
        heir = min(others, key=_seniority)

        async def still_there(mine: Grant) -> None:
            if not isinstance(await self._store.grant(grant.channel_id, heir.user_id), Grant):
                raise ChatError(Code.BUSY, "The heir has just left", retry_after_s=1.0)

        await self._appender.append(
            channel_id=grant.channel_id,
            sender_id=grant.user_id,
            client_msg_id=new_client_msg_id(),
            kind=EventKind.ROLE,
            members_seq=grant.members_seq,
            users=[heir.user_id],
            role=Role.OWNER,
            check=still_there,
        )

    async def _append(
        self, channel_id: str, user_id: str, kind: EventKind, members_seq: int, key: str = ""
    ) -> None:
        await self._appender.append(
            channel_id=channel_id,
            sender_id=user_id,
            client_msg_id=key or new_client_msg_id(),
            kind=kind,
            members_seq=members_seq,
            users=[user_id],
        )

    # --- messages --------------------------------------------------------------------------------------------

    async def _messages(self, job: Job, cursor: _Cursor) -> Job:
        """One batch: of a channel that is under way, or a look for the next one."""
        if cursor.channel_id:
            return await self._blank(job, cursor)
        page = [each.channel_id for each in await self._store.kept_channels(cursor.after, CHANNELS_PER_BATCH)]
        if not page:
            return self._round_done(job, cursor)
        wrote = await self._store.wrote_in(job.subject, page)
        if wrote:
            return _at(job, msgspec.structs.replace(cursor, channel_id=wrote[0]))
        return _at(job, msgspec.structs.replace(cursor, after=page[-1]))

    async def _blank(self, job: Job, cursor: _Cursor) -> Job:
        channel_id = cursor.channel_id
        done = await self._store.blank(channel_id, job.subject, cursor.sent_after, EVENTS_PER_BATCH)
        self.blanked += done.changed
        job = msgspec.structs.replace(job, progress=job.progress + done.changed)
        if done.more:
            return _at(job, msgspec.structs.replace(cursor, sent_after=done.upto))
        # No member's event: it needs nobody's leave. Its key makes it one, however often this is done.
        await self._append(channel_id, job.subject, EventKind.ERASE, MAX_MESSAGE_ID, f"erase-{job.job_id}")
        return _at(job, msgspec.structs.replace(_begin(Phase.MESSAGES, cursor), after=channel_id))

    def _round_done(self, job: Job, cursor: _Cursor) -> Job:
        if cursor.last_round:
            expires_at = self._now() + ENDED_HOLD_MS
            return msgspec.structs.replace(job, state=JobState.DONE, cursor="", expires_at=expires_at)
        run_at = self._now() + self._settle_ms
        job = msgspec.structs.replace(job, state=JobState.WAITING, run_at=run_at)
        return _at(job, _begin(Phase.CHECK, cursor))


def _begin(phase: Phase, before: _Cursor, *, last_round: bool = False) -> _Cursor:
    return _Cursor(phase, archive_id=before.archive_id, last_round=before.last_round or last_round)


def _seniority(member: Member) -> tuple[int, int, str]:
    return -RANK[member.role], member.joined_seq, member.user_id


def _at(job: Job, cursor: _Cursor) -> Job:
    return msgspec.structs.replace(job, cursor=msgspec.json.encode(cursor).decode())
