"""What writes and reads messages, on a real store and without Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from support.live import live

from chatkernel.appender import Appender
from chatkernel.blocks import Blocks
from chatkernel.bus import Post
from chatkernel.channels import Channels
from chatkernel.ids import UserId, direct_channel_id, now_ms
from chatkernel.messaging import Actor, Messaging
from chatkernel.protocol import Ack, ClientFrame, Limits
from chatkernel.receipts import Receipts
from chatkernel.storage.store import Store


class Meanwhile:
    """A real store where something happens just after a call that was read for somebody."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.after: dict[str, list[Callable[[], Awaitable[Any]]]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in self.after:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await method(*args, **kwargs)
            steps = self.after[name]
            if steps:
                await steps.pop(0)()
            return answer

        return call


class Desk:
    """What one pod has to write and read messages with."""

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.store: Any = Meanwhile(store)
        self.live = live(limits)
        self.told: list[Any] = []
        self.appender = Appender(
            self.store, self.store, now_ms, before_insert=lambda _: None, on_stored=self.told.extend
        )
        self.blocks = Blocks(self.store, lambda: 0.0)
        self.receipts = Receipts(self.store, self.blocks, 0.01, 50, self._tell)
        self.messaging = Messaging(
            event_log=self.store,
            conversations=self.store,
            appender=self.appender,
            receipts=self.receipts,
            blocks=self.blocks,
            presence=None,  # type: ignore[arg-type]
            tell=self._tell,
            live=self.live,
            small_group_max=50,
        )
        self.channels = Channels(
            conversations=self.store,
            accounts=self.store,
            people=self.store,
            appender=self.appender,
            live=self.live,
            region="local",
        )

    def _tell(self, posts: Sequence[Post]) -> None:
        self.told.extend(posts)

    async def group(self, *users: str, history_from_start: bool = False) -> str:
        """The id of a new group; the first of the users owns it."""
        state = await self.channels.create_group(users[0], "Team", users[1:], history_from_start, None)
        return state.channel_id

    async def does(self, user: str, frame: ClientFrame) -> Ack:
        """Raises ChatError."""
        answer = (await self.messaging.perform(Actor(user, "d"), frame))[-1]
        assert isinstance(answer, Ack)
        return answer


def pair(one: str, other: str) -> str:
    return direct_channel_id("local", UserId(one), UserId(other))
