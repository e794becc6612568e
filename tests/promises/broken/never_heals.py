"""Broken: what the bus did not bring is never looked for."""

from __future__ import annotations

from collections.abc import Sequence

from switch import is_on

from chatpod.healer import Healer


def install() -> None:
    real = Healer._heal

    async def heal(self: Healer, channel_ids: Sequence[str]) -> None:
        if not is_on(__name__):
            await real(self, channel_ids)

    Healer._heal = heal  # type: ignore[method-assign]
