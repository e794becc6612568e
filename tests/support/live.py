"""What may change while a service runs, for the parts that ask for it."""

from __future__ import annotations

from chatkernel.live import Live
from chatkernel.protocol import Limits
from chatkernel.settings import DrainSettings, LiveSettings


def live(limits: Limits | None = None, drain: DrainSettings | None = None) -> Live:
    return Live(LiveSettings(limits=limits or Limits(), drain=drain or DrainSettings()))
