"""User names for ids, and events that are not messages, in words."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from chatclient.errors import Unreachable
from chatclient.http import Api
from chatkernel.errors import ChatError
from chatkernel.protocol import Event, EventKind


class Profile(Struct, frozen=True):
    """What we read of a person's profile."""

    user_id: str
    username: str


class Names:
    """Asks for each name once; an id that nobody can name stands for itself."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: dict[str, str] = {}

    def of(self, user_id: str) -> str:
        return self._names.get(user_id, user_id)

    async def learn(self, user_ids: Iterable[str]) -> None:
        for user_id in set(user_ids) - self._names.keys():
            try:
                profile = await self._api.call("GET", f"/v1/users/{user_id}", kind=Profile)
            except (ChatError, Unreachable):
                self._names[user_id] = user_id
            else:
                self._names[user_id] = profile.username

    def what_happened(self, event: Event) -> str:
        """An event other than a message, as a sentence."""
        who, whom = self.of(event.sender_id), ", ".join(self.of(user) for user in event.users or ())
        others = ", ".join(self.of(user) for user in event.users or () if user != event.sender_id)
        match event.kind:
            case EventKind.CREATED:
                return f"* {who} opened this channel with {others}"
            case EventKind.JOIN:
                return f"* {who} added {whom}"
            case EventKind.LEAVE:
                return f"* {whom} left" if event.users == [event.sender_id] else f"* {who} removed {whom}"
            case EventKind.BAN:
                return f"* {who} banned {whom}"
            case EventKind.ROLE:
                return f"* {who} made {whom} {event.role}"
            case EventKind.RENAME:
                return f"* {who} called it {event.name}"
            case EventKind.RETENTION:
                kept = f"for {event.retention_s} s" if event.retention_s else "as long as the cluster does"
                return f"* {who} set that the group keeps its messages {kept}"
            case EventKind.ERASE:
                return "* somebody who was here was erased, with what they wrote"
            case EventKind.REACTION:
                return f"* {who} {'set' if event.on is not False else 'took back'} {event.emoji}"
            case EventKind.EDIT:
                return f"* {who} changed a message to: {event.text}"
            case EventKind.DELETE:
                return f"* {who} deleted a message"
            case _:
                return f"* {event.kind}"
