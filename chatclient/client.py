"""The client: one device of one person, always connected, that misses nothing and sends nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx

from chatclient.archive import Archive, HistoryView
from chatclient.cache import Cache
from chatclient.engine import Engine
from chatclient.errors import Closed, NotKept, Unreachable
from chatclient.http import Api, Credentials, Tokens, TokenStore
from chatclient.listener import Ended, Listener, StateChange
from chatclient.outbox import Command
from chatclient.roamer import Roamer
from chatclient.sync import SyncState
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import (
    Ack,
    Delete,
    Delivered,
    Edit,
    Event,
    History,
    Page,
    PresenceEntry,
    PresenceWatch,
    React,
    Read,
    Send,
    Typing,
)


class ChatClient(Engine):
    """Use as `async with ChatClient(url, credentials=…) as client: await client.connect()`.

    Not thread-safe; belongs to one event loop. The `listener` is told everything; `changes()` iterates over
    it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None = None,
        tokens: Tokens | None = None,
        cache_path: Path | None = None,
        listener: Listener | None = None,
        store: TokenStore | None = None,
        region: str = "",
        msgpack: bool = False,
        http: httpx.AsyncClient | None = None,
        rng: Random | None = None,
        agent: str = "chatclient-python",
    ) -> None:
        """`cache_path`: where this device keeps its cursors, history and unacked sends; None: only in memory.

        `store` is given every new pair of tokens; processes that are the same device need a common one.
        """
        rng = rng or Random()
        api = Api(base_url, tokens=tokens, credentials=credentials, http=http, store=store, rng=rng)
        super().__init__(api, listener or Listener(), rng=rng, region=region, msgpack=msgpack, agent=agent)
        self._cache_path = cache_path
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- life ---

    async def connect(self, timeout_s: float | None = None) -> None:
        """Returns when connected and in sync; from then on the client stays so by itself.

        Raises ChatError (log-in or session refused), Closed, Unreachable when it takes longer than
        `timeout_s` (None: waits for ever), or NotKept when the cache cannot be opened.
        """
        if self._task is None:
            await self._start()
        assert self._roamer is not None  # noqa: S101 - made by _start
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_up.wait()
        except TimeoutError as error:
            raise Unreachable(self._roamer.last_problem or "no chat pod answered in time") from error
        if self._ended is not None:
            raise Closed(self._ended)

    async def _start(self) -> None:
        await self.api.access_token()
        assert self.api.tokens is not None  # noqa: S101 - access_token gave one
        user_id = self.api.tokens.user_id
        cursors: dict[str, int] = {}
        message_ids: dict[str, int] = {}
        if self._cache_path is not None:
            self._cache = Cache(self._cache_path, user_id)
            cursors, message_ids = self._cache.cursors(), self._cache.message_ids()
        self._sync = SyncState(user_id, cursors, self.listener.on_refused, message_ids)
        if self._cache is not None:
            self._archive = Archive(self._cache, self._sync.cursors, self._fetch_page)
            for command in self._cache.outbox():
                self._outbox.add(command, self._done_with(command, None))
        loop = asyncio.get_running_loop()
        self._roamer = Roamer(self, self._take_seats, self._rng, loop.time)
        self._task = loop.create_task(self._roamer.run(), name=f"chatclient {user_id}")

    async def close(self) -> None:
        """Closes the connection; what is unacked stays in the cache and is sent at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._roamer is not None and self._roamer.link is not None:
            self._roamer.link.close()
        for timer in (self._tick, self._ask_again):
            if timer is not None:
                timer.cancel()
        self._outbox.abandon()
        if self._archive is not None:
            self._archive.close()
            self._archive = self._cache = None
        await self.api.close()

    async def changes(self) -> AsyncIterator[Event | StateChange]:
        """Everything from now on, in order; ends when the session does."""
        queue: asyncio.Queue[Event | StateChange] = asyncio.Queue()
        self._queues.append(queue)
        try:
            while True:
                change = await queue.get()
                yield change
                if isinstance(change, Ended):
                    return
        finally:
            self._queues.remove(queue)

    # --- what the app may do ---

    async def send(
        self,
        channel_id: str,
        text: str,
        *,
        reply_to: int | None = None,
        metadata: dict[str, Any] | None = None,
        client_msg_id: str | None = None,
    ) -> Ack:
        """Returns when the message is stored for good; reconnects and resends by itself until then.

        Raises ChatError when the server refuses it, Closed when the client ends first.
        """
        key = client_msg_id or new_client_msg_id()
        return await self.submit(Send("-", channel_id, key, text, reply_to, metadata))

    async def edit(self, channel_id: str, message_id: int, text: str) -> Ack:
        return await self.submit(Edit("-", channel_id, new_client_msg_id(), message_id, text))

    async def delete(self, channel_id: str, message_id: int) -> Ack:
        return await self.submit(Delete("-", channel_id, new_client_msg_id(), message_id))

    async def react(self, channel_id: str, message_id: int, emoji: str, *, on: bool = True) -> Ack:
        return await self.submit(React("-", channel_id, new_client_msg_id(), message_id, emoji, on))

    def submit(self, command: Command) -> asyncio.Future[Ack]:
        """Puts a command in the outbox at once; its `id` is chosen anew at each sending. See `send`."""
        if self._ended is not None:
            raise Closed(self._ended)
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        if self._cache is not None:
            with suppress(NotKept):  # then it does not outlive this process
                self._cache.put_command(command)
        self._outbox.add(command, self._done_with(command, future))
        self._pump()
        return future

    def mark_read(self, channel_id: str, seq: int) -> None:
        """A watermark: lost ones are made good by the next."""
        self._say(Read(self._new_id(), channel_id, seq))

    def mark_delivered(self, channel_id: str, seq: int) -> None:
        self._say(Delivered(self._new_id(), channel_id, seq))

    def typing(self, channel_id: str, *, on: bool = True) -> None:
        self._say(Typing(self._new_id(), channel_id, on))

    async def watch_presence(
        self, user_ids: Sequence[str] = (), channel_id: str | None = None
    ) -> list[PresenceEntry]:
        """The present state; changes come to the listener, also after a reconnect. Raises ChatError,
        Unreachable."""
        watch = PresenceWatch(self._new_id(), list(user_ids), channel_id)
        if channel_id is None:
            self._watched = watch
        answer = await self._link().request(watch)
        return [] if answer.presence is None else answer.presence.entries

    async def history(self, channel_id: str, *, limit: int = 50, **where: int) -> HistoryView:
        """`where`: at most one of before, after (seqs), around (message id), at (Unix ms); none: the newest.

        Pages going back are answered from the cache as far as it goes. Raises ChatError or Unreachable.
        """
        if self._archive is not None and not where.keys() - {"before"}:
            return await self._archive.before(channel_id, where.get("before"), limit)
        page = await self._fetch_page(channel_id, {"limit": limit, **where})
        return HistoryView(page.items, page.more_before, page.more_after)

    async def _fetch_page(self, channel_id: str, where: dict[str, int]) -> Page:
        where["limit"] = min(where.get("limit", 50), self.limits.page_max_items)
        answer = await self._link().request(History(self._new_id(), channel_id, **where))
        if not answer.pages:
            raise Unreachable("the history did not come")
        return answer.pages[0]
