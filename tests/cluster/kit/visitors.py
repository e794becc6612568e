"""People who come and go, and say nothing: connections, for what counts them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatclient.client import ChatClient
from chatclient.http import Tokens

COMES_S = 30.0


class Visitors:
    """All of them come, and all of them go."""

    def __init__(self, url: str, number: int) -> None:
        self._url, self._number = url, number
        self._here: list[ChatClient] = []
        self._tokens: list[Tokens] = []

    async def sign_up(self) -> None:
        for _ in range(self._number):
            async with ChatClient(self._url) as client:
                name = f"visitor-{secrets.token_hex(6)}"
                self._tokens.append(await client.api.sign_up(name, secrets.token_urlsafe(12)))

    async def come(self) -> None:
        """Returns when all are connected."""
        self._here = [ChatClient(self._url, tokens=tokens) for tokens in self._tokens]
        await asyncio.gather(*(client.connect(COMES_S) for client in self._here))

    async def go(self) -> None:
        here, self._here = self._here, []
        await asyncio.gather(*(client.close() for client in here))
        self._tokens = [client.api.tokens for client in here if client.api.tokens] or self._tokens


@asynccontextmanager
async def visiting(url: str, number: int) -> AsyncIterator[Visitors]:
    """They have accounts, and are not there yet."""
    visitors = Visitors(url, number)
    await visitors.sign_up()
    try:
        yield visitors
    finally:
        await visitors.go()
