"""Friends and blocks. Both people's devices are told; a block is told to nobody but the blocker."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.resources.channels import check_limit
from apipod.services import Services
from chatkernel.errors import Code, invalid
from chatkernel.protocol import NoticeTopic
from chatkernel.storage.model import FriendAction, FriendChange, FriendPage, FriendState


class FriendQuery(Struct, frozen=True):
    """`cursor` is the page before's `next_cursor`. `limit` is at most `page_max_items`, and that if absent."""

    cursor: Annotated[str, Meta(max_length=256)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] | None = None


class Relation(Struct, frozen=True):
    """How the two stand now, as the asking person sees it; null: not at all."""

    user_id: str
    state: FriendState | None


async def list_friends(services: Services, call: Call) -> FriendPage:
    query: FriendQuery = call.query
    most = services.live.limits.page_max_items
    limit = most if query.limit is None else check_limit(services, query.limit)
    return await services.store.friends(call.user_id, query.cursor or None, limit)


async def add_friend(services: Services, call: Call) -> Relation:
    change = await _act(services, call, FriendAction.REQUEST)
    return Relation(call.path["user_id"], change.state)


async def remove_friend(services: Services, call: Call) -> None:
    await _act(services, call, FriendAction.REMOVE)


async def block(services: Services, call: Call) -> None:
    await _act(services, call, FriendAction.BLOCK)


async def unblock(services: Services, call: Call) -> None:
    await _act(services, call, FriendAction.UNBLOCK)


async def _act(services: Services, call: Call, action: FriendAction) -> FriendChange:
    """Who hears of it is decided by what it changed: nobody can make another's devices busy by saying it again."""
    other_id = call.path["user_id"]
    if other_id == call.user_id:
        raise invalid("user_id", "must be another person")
    most = services.live.limits.friends_max
    change = await services.store.friend_action(call.user_id, other_id, action, services.now(), most)
    if change.changed:
        services.announcer.notice(NoticeTopic.FRIENDS, call.user_id, user_id=other_id)
        if action in (FriendAction.BLOCK, FriendAction.UNBLOCK):
            # Who may write to whom is remembered for seconds: here and on the pods of both.
            services.kernel.blocks.forget()
            services.announcer.blocks_changed(call.user_id, other_id)
    if change.other_changed:
        services.announcer.notice(NoticeTopic.FRIENDS, other_id, user_id=call.user_id)
    return change


OPERATIONS = (
    Operation(
        "GET",
        "/v1/friends",
        "listFriends",
        "Friends, requests and blocks, newest first",
        list_friends,
        answer=FriendPage,
        query=FriendQuery,
        tag="people",
    ),
    Operation(
        "PUT",
        "/v1/friends/{user_id}",
        "addFriend",
        "Ask somebody to be a friend, or accept their request",
        add_friend,
        answer=Relation,
        errors=(Code.USER_NOT_FOUND, Code.BLOCKED, Code.LIMIT_REACHED),
        tag="people",
    ),
    Operation(
        "DELETE",
        "/v1/friends/{user_id}",
        "removeFriend",
        "End a friendship, or take back or refuse a request",
        remove_friend,
        status=204,
        errors=(Code.USER_NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "PUT",
        "/v1/blocks/{user_id}",
        "blockUser",
        "Block somebody: neither can write to the other",
        block,
        status=204,
        errors=(Code.USER_NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "DELETE",
        "/v1/blocks/{user_id}",
        "unblockUser",
        "Lift a block",
        unblock,
        status=204,
        errors=(Code.USER_NOT_FOUND,),
        tag="people",
    ),
)
