"""Keeps a store as the API server has it: a list, then the stream of changes, and from the beginning when that fails.

For what belongs to ChatClusters (`resources.py` has these themselves): kopf knows no label selectors, so it would
bring every Pod and Secret there is, and it tells nothing of an object that was deleted while a watch was interrupted.
Here a list replaces what is known: what it lacks is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from chatoperator.kube.client import KubeClient, Selection
from chatoperator.kube.errors import ABSENT, Expired, KubeError
from chatoperator.kube.kinds import name_of, namespace_of, version_of
from chatoperator.kube.store import Store

log = logging.getLogger(__name__)

WATCH_FOR_S = 240
"""After about this long a watch is begun anew, and not all of them at once."""
RELIST_S = 280.0
"""After this long everything is listed again, in case a stream has lost something."""
SILENCE_S = 75.0
"""The API server sends a bookmark about every minute: a stream that says less is dead."""
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 5.0
SHORT_S = 1.0
"""A watch that ends well is still not begun more often than this."""
ABSENT_S = 60.0
"""Between two looks for a kind that the API server does not have, or that may not be seen."""


class Watcher:
    """Of one kind in one namespace, or in all."""

    def __init__(
        self,
        client: KubeClient,
        selection: Selection,
        store: Store,
        *,
        now: Callable[[], float] = time.monotonic,
        silence_s: float = SILENCE_S,
        relist_s: float = RELIST_S,
    ) -> None:
        self._client, self.selection, self._store, self._now = client, selection, store, now
        self._silence_s, self._relist_s = silence_s, relist_s
        self._since = ""
        self._listed_at = 0.0
        self._failures = 0
        self.heard_at = -1e9
        """When the API server last said anything here (monotonic, seconds)."""
        self.listed = False
        self.problem: KubeError | None = None
        """Why nothing is heard now."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._follow()
            except Expired:
                self._since = ""
            except KubeError as error:
                await self._pause(error)

    async def _follow(self) -> None:
        if not self._since or self._now() - self._listed_at > self._relist_s:
            await self._list()
        for_s = max(1, round(min(WATCH_FOR_S, self._relist_s) * random.uniform(0.75, 1.0)))
        began = self._now()
        async for change in self._client.watch(self.selection, self._since, for_s, self._silence_s):
            self._heard()
            if change.type == "OPENED":
                continue
            self._since = str(change.object["metadata"]["resourceVersion"])
            if change.type == "DELETED":
                gone = change.object
                self._store.drop(namespace_of(gone), name_of(gone), version_of(gone))
            elif change.type != "BOOKMARK":
                self._store.put(change.object)
        if self._now() - began < SHORT_S:  # something between closes what it is given
            await asyncio.sleep(SHORT_S)

    async def _list(self) -> None:
        items, self._since = await self._client.list(self.selection)
        self._store.replace(self.selection.namespace, items, int(self._since))
        self._listed_at = self._now()
        self.listed = True
        self._heard()

    def _heard(self) -> None:
        self.heard_at = self._now()
        self._failures, self.problem = 0, None

    async def _pause(self, error: KubeError) -> None:
        kind = self.selection.kind
        is_excused = kind.optional and isinstance(error, ABSENT)
        if self.problem is None and not is_excused:
            log.warning("watch lost", extra={"kind": kind.name, "error": str(error)})
        self.problem, self._failures = error, self._failures + 1
        self._since = ""  # whatever was not heard, a list tells
        if is_excused:
            self._store.clear(self.selection.namespace)  # what was there may be otherwise by now
            await asyncio.sleep(ABSENT_S)
        else:
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
