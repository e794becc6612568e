"""Export of a person's data: an archive in the store, made piece by piece.

What is in it: `person.json`, `settings.json`, `friends.jsonl`, `devices.jsonl`, `conversations/N.jsonl`; of every
channel that they are in, what they may see of its history now (`history/CHANNEL/N.jsonl`); and of every other
channel, what they wrote there (`sent/CHANNEL/N.jsonl`). Never another person's words from where they no longer are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatkernel.bus import Bus, Post, UserFrame
from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.jobs import EXPORT_HOLD_MS, ArchiveCursor, archive_cursor
from chatkernel.live import Live
from chatkernel.protocol import EventKind, Notice, NoticeTopic, encode_json
from chatkernel.storage.model import Grant, Job, JobState, PageQuery
from chatkernel.storage.store import Store
from worker.jobs.archive import END, fitting, lines, piece

GIVES_UP_AFTER = 10
LINES_PER_BATCH = 500
CHANNELS_PER_BATCH = 200
FRIENDS_PER_READ = 1_000
_WRITTEN = (EventKind.MESSAGE, EventKind.EDIT, EventKind.REACTION)

File = tuple[str, bytes]


class Export:
    """An archive is bounded as it is stored, by the limit as it is then."""

    gives_up_after = GIVES_UP_AFTER

    def __init__(self, store: Store, bus: Bus, live: Live, now: NowMs) -> None:
        self._store, self._bus, self._live, self._now = store, bus, live, now

    async def batch(self, job: Job) -> Job:
        """Raises ChatError."""
        cursor = archive_cursor(job)
        match cursor.phase:
            case "person":
                files, after = await self._person(job.subject)
            case "conversations":
                files, after = await self._conversations(job.subject, cursor)
            case "history":
                files, after = await self._history(job.subject, cursor)
            case "sent":
                files, after = await self._sent(job.subject, cursor)
            case _:
                return await self._end(job, cursor)
        if not files:
            return _at(job, after, cursor.runs)
        data = piece(files, self._now)
        return _at(job, after, await self._write(job, cursor, data), len(data))

    async def failed(self, job: Job) -> Job:
        await self._store.drop_chunks(job.job_id)
        return msgspec.structs.replace(job, cursor="", expires_at=self._now() + EXPORT_HOLD_MS)

    async def _write(self, job: Job, cursor: ArchiveCursor, data: bytes) -> tuple[tuple[int, int], ...]:
        """Store the next piece; the runs with it."""
        most = self._live.limits.export_max_bytes
        if job.progress + len(data) > most:
            raise ChatError(Code.TOO_LARGE, limit=most)
        runs = list(cursor.runs)
        count = runs.pop()[1] if runs and runs[-1][0] == job.attempt else 0
        await self._store.put_chunk(job.job_id, job.attempt, count, data)
        return (*runs, (job.attempt, count + 1))

    async def _end(self, job: Job, cursor: ArchiveCursor) -> Job:
        runs = await self._write(job, cursor, END)
        notice = encode_json(Notice(NoticeTopic.EXPORT))
        await self._bus.publish([Post(UserFrame([job.subject], notice), users=(job.subject,))])
        done = _at(job, msgspec.structs.replace(cursor, phase="done"), runs, len(END))
        return msgspec.structs.replace(done, state=JobState.DONE, expires_at=self._now() + EXPORT_HOLD_MS)

    # --- what is in it ----------------------------------------------------------------------------------------

    async def _person(self, user_id: str) -> tuple[list[File], ArchiveCursor]:
        user = (await self._store.users([user_id])).get(user_id)
        if user is None:
            raise ChatError(Code.USER_NOT_FOUND)
        settings = await self._store.settings(user_id)
        friends = []
        page = await self._store.friends(user_id, None, FRIENDS_PER_READ)
        friends += page.friends
        while page.next_cursor is not None:
            page = await self._store.friends(user_id, page.next_cursor, FRIENDS_PER_READ)
            friends += page.friends
        files = [
            ("person.json", lines([user])),
            ("settings.json", lines([settings])),
            ("friends.jsonl", lines(friends)),
            ("devices.jsonl", lines(await self._store.devices(user_id))),
        ]
        return files, ArchiveCursor("conversations")

    async def _conversations(self, user_id: str, cursor: ArchiveCursor) -> tuple[list[File], ArchiveCursor]:
        """First those in the list, then those that were archived (`channel_id` says which)."""
        archived = cursor.channel_id == "archived"
        page = await self._store.conversations(
            user_id, cursor=cursor.after or None, limit=CHANNELS_PER_BATCH, archived=archived
        )
        part = cursor.part + 1
        found = page.conversations
        files = [(f"conversations/{part:06d}.jsonl", lines(found))] if found else []
        if page.next_cursor is not None:
            return files, ArchiveCursor("conversations", cursor.channel_id, page.next_cursor, part)
        if not archived:
            return files, ArchiveCursor("conversations", "archived", "", part)
        return files, ArchiveCursor("history")

    async def _history(self, user_id: str, cursor: ArchiveCursor) -> tuple[list[File], ArchiveCursor]:
        """Channels by rising id, each from where the person may see it now."""
        grants = {grant.channel_id: grant for grant in (await self._store.grants_of([user_id]))[user_id]}
        channel_id = cursor.channel_id
        if channel_id not in grants or not cursor.after:
            later = [each for each in sorted(grants) if each > channel_id]
            if not later:
                return [], ArchiveCursor("sent")
            channel_id, cursor = later[0], ArchiveCursor("history", later[0], "0")
        grant: Grant = grants[channel_id]
        query = PageQuery(channel_id, grant.from_seq, LINES_PER_BATCH, after=int(cursor.after))
        page = await self._store.page(query)
        kept = fitting(page.items)
        part = cursor.part + 1
        files = [(f"history/{channel_id}/{part:06d}.jsonl", b"".join(kept))] if kept else []
        more = page.more_after or len(kept) < len(page.items)
        after = str(page.items[len(kept) - 1].event.seq) if kept and more else ""
        return files, ArchiveCursor("history", channel_id, after, part)

    async def _sent(self, user_id: str, cursor: ArchiveCursor) -> tuple[list[File], ArchiveCursor]:
        """`channel_id` is under way while `part` is not 0; else the last one that was looked at."""
        if cursor.part:
            return await self._sent_in(user_id, cursor)
        page = [
            each.channel_id for each in await self._store.kept_channels(cursor.channel_id, CHANNELS_PER_BATCH)
        ]
        if not page:
            return [], ArchiveCursor("end")
        mine = {grant.channel_id for grant in (await self._store.grants_of([user_id]))[user_id]}
        elsewhere = [channel_id for channel_id in page if channel_id not in mine]
        wrote: Sequence[str] = await self._store.wrote_in(user_id, elsewhere)
        if wrote:
            return [], ArchiveCursor("sent", wrote[0], "", 1)
        return [], ArchiveCursor("sent", page[-1])

    async def _sent_in(self, user_id: str, cursor: ArchiveCursor) -> tuple[list[File], ArchiveCursor]:
        channel_id = cursor.channel_id
        found = await self._store.sent(channel_id, user_id, cursor.after, LINES_PER_BATCH)
        kept = fitting(found)
        shown = [line for event, line in zip(found, kept, strict=False) if event.kind in _WRITTEN]
        files = [(f"sent/{channel_id}/{cursor.part:06d}.jsonl", b"".join(shown))] if shown else []
        if len(kept) < len(found) or len(found) == LINES_PER_BATCH:
            after = found[len(kept) - 1].client_msg_id
            return files, ArchiveCursor("sent", channel_id, after, cursor.part + 1)
        return files, ArchiveCursor("sent", channel_id)


def _at(job: Job, cursor: ArchiveCursor, runs: tuple[tuple[int, int], ...], more: int = 0) -> Job:
    cursor = msgspec.structs.replace(cursor, runs=runs)
    return msgspec.structs.replace(
        job, cursor=msgspec.json.encode(cursor).decode(), progress=job.progress + more
    )
