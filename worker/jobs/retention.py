"""Retention removes what is older than a channel or the cluster keeps: one job for all, round after round."""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from chatkernel.ids import NowMs
from chatkernel.message_ids import message_id_at
from chatkernel.storage.lifecycle import Lifecycle
from chatkernel.storage.model import Job, JobState, Keeping
from worker.jobs.runner import BATCH_S

PASS_INTERVAL_S = 300.0
"""From the end of one round over all channels to the next: what is due goes at most this much later, and as long as
a round takes."""
CHANNELS_PER_BATCH = 200
EVENTS_PER_BATCH = 2_000
EVENTS_PER_STEP = 200
"""Removed in one transaction: writers wait no longer than that takes."""


class _Cursor(Struct, frozen=True):
    after: str = ""


_cursor = msgspec.json.Decoder(_Cursor)


class Retention:
    """`keep_s`: what the cluster keeps at most; 0: everything."""

    gives_up_after = 0

    def __init__(self, store: Lifecycle, keep_s: int, now: NowMs) -> None:
        self._store, self._keep_s, self._now = store, keep_s, now
        self.removed = 0

    async def batch(self, job: Job) -> Job:
        """Raises ChatError."""
        after = _cursor.decode(job.cursor).after if job.cursor else ""
        channels = await self._store.kept_channels(after, CHANNELS_PER_BATCH)
        if not channels:
            # Far enough ahead of the pass that this worker's own claim finds other work first.
            run_at = self._now() + int(PASS_INTERVAL_S * 1000)
            return msgspec.structs.replace(job, cursor="", state=JobState.WAITING, run_at=run_at)
        removed, until = 0, time.monotonic() + BATCH_S
        for channel in channels:
            if time.monotonic() > until:
                break
            done = await self._channel(channel, EVENTS_PER_BATCH - removed)
            removed += abs(done)
            if done < 0:
                break
            after = channel.channel_id
        self.removed += removed
        cursor = msgspec.json.encode(_Cursor(after)).decode()
        return msgspec.structs.replace(job, cursor=cursor, progress=job.progress + removed)

    async def _channel(self, channel: Keeping, room: int) -> int:
        """How many events were removed; negative: and there are more."""
        keep_s = min((each for each in (channel.retention_s, self._keep_s) if each), default=0)
        if not keep_s:
            return 0
        before_id = message_id_at(self._now() - keep_s * 1000)
        removed = 0
        while True:
            expired = await self._store.expire(channel.channel_id, before_id, EVENTS_PER_STEP)
            removed += expired.removed
            if not expired.more:
                return removed
            if removed >= room:
                return -removed

    async def failed(self, job: Job) -> Job:
        return job
