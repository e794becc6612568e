"""Broken: somebody who is put out of a channel goes on receiving it."""

from __future__ import annotations

from switch import is_on

from chatpod.client import Client
from chatpod.hub import Hub


def install() -> None:
    real = Hub.detach

    def detach(self: Hub, client: Client, channel_id: str) -> None:
        if not is_on(__name__):
            real(self, client, channel_id)

    Hub.detach = detach  # type: ignore[method-assign]
