"""The owner of what may change while a service runs, and what follows the file that says it.

Whoever needs a limit asks here when it needs it, and keeps no copy: a change holds for the next frame or request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from chatkernel.settings import LiveSettings, SettingsError, read_json

POLL_INTERVAL_S = 0.5

log = logging.getLogger(__name__)


class Live:
    """The present values."""

    __slots__ = ("_followers", "drain", "limits", "rates")

    def __init__(self, settings: LiveSettings | None = None) -> None:
        present = settings or LiveSettings()
        self.limits, self.drain, self.rates = present.limits, present.drain, present.rates
        self._followers: list[Callable[[], None]] = []

    def follow(self, follower: Callable[[], None]) -> None:
        """Call it now, and after each change: for what is derived from the values, or belongs to a library."""
        self._followers.append(follower)
        follower()

    def change(self, settings: LiveSettings) -> list[str]:
        """The names of the values that changed, as `limits.sends_per_s`."""
        changed = [
            f"{part}.{name}"
            for part in settings.__struct_fields__
            for name, value in msgspec.structs.asdict(getattr(settings, part)).items()
            if value != getattr(getattr(self, part), name)
        ]
        if changed:
            self.limits, self.drain, self.rates = settings.limits, settings.drain, settings.rates
            for follower in self._followers:
                follower()
        return changed


class LiveFile:
    """Reads the file again when it changes. What cannot be used changes nothing, and is told once."""

    def __init__(self, path: Path, live: Live) -> None:
        self._path, self._live = path, live
        self._seen: object = None
        self.refused = False
        """What stands in the file is not in force."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(POLL_INTERVAL_S)

    def look(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            changed = self._live.change(read_json(self._path, LiveSettings))
        except SettingsError as error:
            self.refused = True
            log.error("live settings refused, the old ones stay", extra={"error": str(error)})  # noqa: TRY400
            return
        self.refused = False
        if changed:
            log.info("live settings changed", extra={"changed": changed})

    def _stamp(self) -> tuple[int, int, int] | None:
        """Of the file at the end of all links: a mounted ConfigMap is replaced by another link."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
