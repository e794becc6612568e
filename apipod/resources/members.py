"""Who is in a channel, and how far each has read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.resources.channels import MEMBERS_IN_BODY_MAX, check_limit
from apipod.services import Services
from chatkernel.errors import Code
from chatkernel.protocol import ReceiptEntry, Role, UserRef
from chatkernel.storage.model import Member


class MemberQuery(Struct, frozen=True):
    """Members by rising user id. `after` is the page before's `next_after`."""

    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class MemberPage(Struct, frozen=True, omit_defaults=True):
    members: list[Member]
    next_after: str | None = None


class ReceiptPage(Struct, frozen=True, omit_defaults=True):
    entries: list[ReceiptEntry]
    next_after: str | None = None


class NewMembers(Struct, frozen=True):
    user_ids: Annotated[list[UserRef], Meta(min_length=1, max_length=MEMBERS_IN_BODY_MAX)]


class Added(Struct, frozen=True):
    """Who was really added: those already in the group and those who have blocked the adder are left out."""

    added: list[str]


class Removal(Struct, frozen=True):
    """`ban`: also keep them from being written to again."""

    ban: bool = False


class RoleChange(Struct, frozen=True):
    """`owner` hands the group over."""

    role: Role


async def _page(services: Services, call: Call) -> tuple[list[Member], str | None]:
    query: MemberQuery = call.query
    limit = check_limit(services, query.limit)
    found = await services.kernel.channels.members(
        call.user_id, call.path["channel_id"], query.after, limit + 1
    )
    page = found[:limit]
    return page, page[-1].user_id if len(found) > limit else None


async def list_members(services: Services, call: Call) -> MemberPage:
    return MemberPage(*await _page(services, call))


async def list_receipts(services: Services, call: Call) -> ReceiptPage:
    page, next_after = await _page(services, call)
    entries = [ReceiptEntry(member.user_id, member.read_seq, member.delivered_seq) for member in page]
    return ReceiptPage(entries, next_after)


async def add_members(services: Services, call: Call) -> Added:
    body: NewMembers = call.body
    channel_id = call.path["channel_id"]
    return Added(await services.kernel.channels.add_members(call.user_id, channel_id, body.user_ids))


async def remove_member(services: Services, call: Call) -> None:
    query: Removal = call.query
    await services.kernel.channels.remove_member(
        call.user_id, call.path["channel_id"], call.path["user_id"], query.ban
    )


async def set_role(services: Services, call: Call) -> None:
    body: RoleChange = call.body
    await services.kernel.channels.set_role(
        call.user_id, call.path["channel_id"], call.path["user_id"], body.role
    )


_CHANGE_ERRORS = (
    Code.CHANNEL_NOT_FOUND,
    Code.USER_NOT_FOUND,
    Code.FORBIDDEN,
    Code.BANNED,
    Code.CONFLICT,
    Code.LIMIT_REACHED,
)

OPERATIONS = (
    Operation(
        "GET",
        "/v1/channels/{channel_id}/members",
        "listMembers",
        "Members of a channel of mine",
        list_members,
        answer=MemberPage,
        query=MemberQuery,
        errors=(Code.CHANNEL_NOT_FOUND, Code.BANNED),
        tag="channels",
    ),
    Operation(
        "POST",
        "/v1/channels/{channel_id}/members",
        "addMembers",
        "Add people to a group",
        add_members,
        answer=Added,
        body=NewMembers,
        errors=_CHANGE_ERRORS,
        tag="channels",
    ),
    Operation(
        "DELETE",
        "/v1/channels/{channel_id}/members/{user_id}",
        "removeMember",
        "Remove or ban somebody, or leave when it is oneself",
        remove_member,
        status=204,
        query=Removal,
        errors=_CHANGE_ERRORS,
        tag="channels",
    ),
    Operation(
        "PUT",
        "/v1/channels/{channel_id}/members/{user_id}/role",
        "setRole",
        "Give a role; `owner` hands the group over",
        set_role,
        status=204,
        body=RoleChange,
        errors=_CHANGE_ERRORS,
        tag="channels",
    ),
    Operation(
        "GET",
        "/v1/channels/{channel_id}/receipts",
        "listReceipts",
        "How far each member has read and received",
        list_receipts,
        answer=ReceiptPage,
        query=MemberQuery,
        errors=(Code.CHANNEL_NOT_FOUND, Code.BANNED),
        tag="channels",
    ),
)
