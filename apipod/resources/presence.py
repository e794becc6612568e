"""Who is online, asked once."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.services import Services
from chatkernel.errors import invalid
from chatkernel.messaging import Actor
from chatkernel.protocol import WATCHES_MAX, Presence, PresenceEntry, PresenceWatch

USER_ID_MAX_CHARS = 64
LIST_MAX_CHARS = WATCHES_MAX * (USER_ID_MAX_CHARS + 1)


class Whose(Struct, frozen=True):
    user_ids: Annotated[
        str,
        Meta(min_length=1, max_length=LIST_MAX_CHARS, description="Comma-separated, at most `watches_max`"),
    ]


class PresenceList(Struct, frozen=True):
    """`unknown` while Redis is away: nothing is guessed."""

    entries: list[PresenceEntry]


async def read_presence(services: Services, call: Call) -> PresenceList:
    query: Whose = call.query
    user_ids = list(dict.fromkeys(part for part in query.user_ids.split(",") if part))
    most = services.live.limits.watches_max
    if len(user_ids) > most:
        raise invalid("user_ids", f"at most {most}", most)
    if any(len(user_id) > USER_ID_MAX_CHARS for user_id in user_ids):
        raise invalid("user_ids", f"each at most {USER_ID_MAX_CHARS} characters", USER_ID_MAX_CHARS)
    caller = call.caller
    answers = await services.kernel.messaging.perform(
        Actor(caller.user_id, caller.device_id), PresenceWatch("http", user_ids)
    )
    return PresenceList(
        [entry for frame in answers if isinstance(frame, Presence) for entry in frame.entries]
    )


OPERATIONS = (
    Operation(
        "GET",
        "/v1/presence",
        "readPresence",
        "Whether people are online",
        read_presence,
        answer=PresenceList,
        query=Whose,
        tag="people",
    ),
)
