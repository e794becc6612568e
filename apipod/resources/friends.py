"""Friends and blocks. Both people's devices are told; a block is told to nobody but the blocker."""

from __future__ import annotations

from msgspec import Struct

from apipod.operation import Call, Operation
from apipod.services import Services
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.protocol import NoticeTopic
from chatkernel.storage.model import Friend, FriendAction, FriendState


class FriendList(Struct, frozen=True):
    """Friends, requests of mine, requests to me, and whom I blocked."""

    friends: list[Friend]


class Relation(Struct, frozen=True):
    """How the two stand now, as the asking person sees it; null: not at all."""

    user_id: str
    state: FriendState | None


async def list_friends(services: Services, call: Call) -> FriendList:
    return FriendList(await services.store.friends(call.user_id))


async def add_friend(services: Services, call: Call) -> Relation:
    most = services.settings.limits.friends_max
    known = await services.store.friends(call.user_id)
    if len(known) >= most and all(friend.user_id != call.path["user_id"] for friend in known):
        raise ChatError(Code.LIMIT_REACHED, f"At most {most} friends and requests", limit=most)
    return await _act(services, call, FriendAction.REQUEST, tell_other=True)


async def remove_friend(services: Services, call: Call) -> None:
    await _act(services, call, FriendAction.REMOVE, tell_other=True)


async def block(services: Services, call: Call) -> None:
    # Only who loses a friend or a request by it is told, in the same words as for a removal.
    known = {friend.user_id: friend.state for friend in await services.store.friends(call.user_id)}
    loses = known.get(call.path["user_id"]) not in (None, FriendState.BLOCKED)
    await _act(services, call, FriendAction.BLOCK, tell_other=loses)
    _forget_blocks(services, call)


async def unblock(services: Services, call: Call) -> None:
    await _act(services, call, FriendAction.UNBLOCK, tell_other=False)
    _forget_blocks(services, call)


def _forget_blocks(services: Services, call: Call) -> None:
    """Who may write to whom is remembered for seconds: here and on the pods of both."""
    services.kernel.blocks.forget()
    services.announcer.blocks_changed(call.user_id, call.path["user_id"])


async def _act(services: Services, call: Call, action: FriendAction, *, tell_other: bool) -> Relation:
    other_id = call.path["user_id"]
    if other_id == call.user_id:
        raise invalid("user_id", "must be another person")
    state = await services.store.friend_action(call.user_id, other_id, action, services.now())
    services.announcer.notice(NoticeTopic.FRIENDS, call.user_id, user_id=other_id)
    if tell_other:
        services.announcer.notice(NoticeTopic.FRIENDS, other_id, user_id=call.user_id)
    return Relation(other_id, state)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/friends",
        "listFriends",
        "Friends, requests and blocks",
        list_friends,
        answer=FriendList,
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
