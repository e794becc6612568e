"""Other people's profiles."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.services import Services
from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import User


class Profile(Struct, frozen=True, omit_defaults=True):
    """What everybody who is logged in may see of a person. Whether they are online is asked as presence."""

    user_id: str
    username: str
    display_name: str
    created_at: int
    about: str = ""
    avatar_url: str = ""


class ByName(Struct, frozen=True):
    username: Annotated[str, Meta(min_length=1, max_length=64)]


def profile_of(user: User) -> Profile:
    return Profile(
        user.user_id, user.username, user.display_name, user.created_at, user.about, user.avatar_url
    )


async def read_user(services: Services, call: Call) -> Profile:
    user_id = call.path["user_id"]
    user = (await services.store.users([user_id])).get(user_id)
    if user is None:
        raise ChatError(Code.USER_NOT_FOUND, field="user_id")
    return profile_of(user)


async def find_user(services: Services, call: Call) -> Profile:
    query: ByName = call.query
    user = await services.store.user_by_name(query.username.lower())
    if user is None:
        raise ChatError(Code.USER_NOT_FOUND, field="username")
    return profile_of(user)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/users",
        "findUser",
        "The person of a user name",
        find_user,
        answer=Profile,
        query=ByName,
        errors=(Code.USER_NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/users/{user_id}",
        "readUser",
        "A person's profile",
        read_user,
        answer=Profile,
        errors=(Code.USER_NOT_FOUND,),
        tag="people",
    ),
)
