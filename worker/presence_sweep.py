"""Tells watchers of people whose last lease ran out, and keeps when they were last active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chatkernel.bus import Bus, NotPublished
from chatkernel.errors import ChatError
from chatkernel.presence import Audience, PresenceStore
from chatkernel.presence_news import audiences_now, presence_post
from chatkernel.protocol import PresenceEntry, PresenceState
from chatkernel.storage.directory import Accounts, People

SWEEP_INTERVAL_S = 1.0

SWEEP_MAX = 1_600
"""People per sweep, evenly over the shards."""

TOGETHER_MAX = 200
"""People who are told of, and settled, together: whom the others of a sweep are told to may take long, and who is not
settled by then is taken by another sweep."""

ROUNDS_MAX = 10
"""Sweeps in one step, when a pod's death took thousands of people offline."""

UNWRITTEN_MAX = 50_000
"""People whose last_active_at waits for the store; beyond it the earliest are left out (Redis still answers
them)."""


class PresenceSweep:
    """Owns the note of what the store has not been told yet."""

    def __init__(self, presence: PresenceStore, bus: Bus, accounts: Accounts, people: People) -> None:
        self._presence, self._bus, self._accounts, self._people = presence, bus, accounts, people
        self._unwritten: dict[str, int] = {}
        self.swept = 0

    async def step(self) -> None:
        """Raises ChatError. Watchers are told even while the store is away, and the other way round."""
        try:
            for _ in range(ROUNDS_MAX):
                if not await self._sweep():
                    break
        finally:
            await self._write()

    async def _sweep(self) -> int:
        gone = await self._presence.sweep(SWEEP_MAX)
        for user, last in gone:
            if last:
                self._unwritten[user] = last
        failure: ChatError | None = None
        for start in range(0, len(gone), TOGETHER_MAX):
            try:
                await self._tell(gone[start : start + TOGETHER_MAX])
            except ChatError as error:
                failure = error  # of these people, who are found again
        if failure is not None:
            raise failure
        return len(gone)

    async def _tell(self, gone: Sequence[tuple[str, int]]) -> None:
        """Raises ChatError."""
        users = [user for user, _ in gone]
        audiences = await audiences_now(self._people, users, await self._presence.audience(users))
        offline = PresenceState.OFFLINE
        posts = {
            user: presence_post(PresenceEntry(user, offline, last or None), audiences[user])
            for user, last in gone
        }
        failure: NotPublished | None = None
        try:
            await self._bus.publish(list(posts.values()))
        except NotPublished as error:
            failure = error
            untold = {id(post) for post in error.posts}
            posts = {user: post for user, post in posts.items() if id(post) not in untold}
        await self._take_back(list(posts), audiences)
        # Only now: were this worker to die before, another sweep would find them again.
        await self._presence.settle(list(posts))
        self.swept += len(posts)
        if failure is not None:
            raise failure

    async def _take_back(self, users: Sequence[str], audiences: Mapping[str, Audience]) -> None:
        """Who logged in between the sweep and its telling may have been told of first: the last word is the truth."""
        back = [
            presence_post(entry, audiences[entry.user_id])
            for entry in (await self._presence.states(users) if users else [])
            if entry.state is PresenceState.ONLINE
        ]
        if back:
            await self._bus.publish(back)

    async def _write(self) -> None:
        if not self._unwritten:
            return
        for user in list(self._unwritten)[: max(0, len(self._unwritten) - UNWRITTEN_MAX)]:
            del self._unwritten[user]
        writing = dict(self._unwritten)
        await self._accounts.touch_active(writing)
        for user, last in writing.items():
            if self._unwritten.get(user) == last:
                del self._unwritten[user]
