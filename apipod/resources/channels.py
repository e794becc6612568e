"""Channels: opening, naming, and one's own list of conversations."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from apipod.operation import Answer, Call, Operation
from apipod.resources.accounts import Name
from apipod.services import Services
from chatkernel.errors import Code, invalid
from chatkernel.protocol import NoticeTopic, UserRef
from chatkernel.storage.model import ChannelState, ConversationPage, ConversationPrefs

MILLISECONDS_MAX = (1 << 53) - 1
MEMBERS_IN_BODY_MAX = 10_000
RETENTION_MAX_S = 100 * 366 * 86_400


class OpenDirect(Struct, frozen=True, tag_field="kind", tag="direct"):
    """The 1:1 channel with somebody. Opening it again, from either side, gives the same one."""

    user_id: UserRef


class CreateGroup(Struct, frozen=True, tag_field="kind", tag="group"):
    """A new group, owned by who asks. Asked again with the same `client_id`, it is the same group."""

    name: Name
    members: Annotated[list[UserRef], Meta(max_length=MEMBERS_IN_BODY_MAX)] = []
    history_from_start: bool = False
    client_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


NewChannel: TypeAlias = OpenDirect | CreateGroup


class ConversationQuery(Struct, frozen=True):
    """`cursor` is the page before's `next_cursor`. `limit` is at most `page_max_items`."""

    cursor: Annotated[str, Meta(max_length=256)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    archived: bool = False


class ChannelChange(Struct, frozen=True):
    """What is missing stays. `retention_s`: how long the group keeps what is in it, in seconds, at least an hour and
    at most as long as the cluster keeps it; 0: as long as the cluster."""

    name: Name | None = None
    retention_s: Annotated[int, Meta(ge=0, le=RETENTION_MAX_S)] | None = None


class PrefsChange(Struct, frozen=True):
    """One's own view of a conversation; what is missing stays. `muted_until`: Unix ms, 0 unmutes."""

    muted_until: Annotated[int, Meta(ge=0, le=MILLISECONDS_MAX)] | None = None
    pinned: bool | None = None
    archived: bool | None = None


def check_limit(services: Services, limit: int) -> int:
    """Raises ChatError(INVALID_FIELD)."""
    most = services.live.limits.page_max_items
    if limit > most:
        raise invalid("limit", f"at most {most}", most)
    return limit


async def open_channel(services: Services, call: Call) -> Answer:
    body: NewChannel = call.body
    channels = services.kernel.channels
    if isinstance(body, OpenDirect):
        state, created = await channels.open_direct(call.user_id, body.user_id)
        return Answer(state, 201 if created else 200)
    state = await channels.create_group(
        call.user_id, body.name, body.members, body.history_from_start, body.client_id
    )
    return Answer(state, 201)


async def list_channels(services: Services, call: Call) -> ConversationPage:
    query: ConversationQuery = call.query
    return await services.store.conversations(
        call.user_id,
        cursor=query.cursor or None,
        limit=check_limit(services, query.limit),
        archived=query.archived,
    )


async def read_channel(services: Services, call: Call) -> ChannelState:
    return await services.kernel.channels.state(call.user_id, call.path["channel_id"])


async def change_channel(services: Services, call: Call) -> None:
    """Each change is an event of its own."""
    body: ChannelChange = call.body
    channels, channel_id = services.kernel.channels, call.path["channel_id"]
    if body.name is None and body.retention_s is None:
        raise invalid("name", "nothing is to be changed")
    if body.retention_s is not None:
        await channels.set_retention(call.user_id, channel_id, body.retention_s)
    if body.name is not None:
        await channels.rename(call.user_id, channel_id, body.name)


async def change_prefs(services: Services, call: Call) -> ConversationPrefs:
    body: PrefsChange = call.body
    channel_id = call.path["channel_id"]
    prefs = await services.kernel.channels.set_prefs(
        call.user_id,
        channel_id,
        muted_until=body.muted_until,
        pinned=body.pinned,
        archived=body.archived,
    )
    services.announcer.notice(NoticeTopic.CONVERSATION, call.user_id, channel_id=channel_id)
    return prefs


OPERATIONS = (
    Operation(
        "GET",
        "/v1/channels",
        "listChannels",
        "My conversations, newest activity first",
        list_channels,
        answer=ConversationPage,
        query=ConversationQuery,
        tag="channels",
    ),
    Operation(
        "POST",
        "/v1/channels",
        "openChannel",
        "Open the 1:1 channel with somebody (200 when it is there), or make a group",
        open_channel,
        answer=ChannelState,
        status=201,
        other_answers={200: ChannelState},
        body=NewChannel,
        errors=(Code.USER_NOT_FOUND, Code.BLOCKED, Code.LIMIT_REACHED, Code.CONFLICT),
        tag="channels",
    ),
    Operation(
        "GET",
        "/v1/channels/{channel_id}",
        "readChannel",
        "A channel of mine",
        read_channel,
        answer=ChannelState,
        errors=(Code.CHANNEL_NOT_FOUND, Code.BANNED),
        tag="channels",
    ),
    Operation(
        "PATCH",
        "/v1/channels/{channel_id}",
        "changeChannel",
        "Rename a group, or say how long it keeps what is in it",
        change_channel,
        status=204,
        body=ChannelChange,
        errors=(Code.CHANNEL_NOT_FOUND, Code.FORBIDDEN, Code.BANNED, Code.CONFLICT),
        tag="channels",
    ),
    Operation(
        "PATCH",
        "/v1/channels/{channel_id}/me",
        "changePrefs",
        "Mute, pin or archive a conversation for myself",
        change_prefs,
        answer=ConversationPrefs,
        body=PrefsChange,
        errors=(Code.CHANNEL_NOT_FOUND,),
        tag="channels",
    ),
)
