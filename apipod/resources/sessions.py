"""Logging in, refreshing, logging out."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.resources.accounts import DeviceRef, Name
from apipod.services import Services
from apipod.sessions import Tokens
from chatkernel.errors import Code
from chatkernel.protocol import PASSWORD_MAX_CHARS
from chatkernel.validation import check_name


class LogIn(Struct, frozen=True):
    username: Annotated[str, Meta(max_length=256)]
    password: Annotated[str, Meta(max_length=PASSWORD_MAX_CHARS)]
    device_name: Name | None = None
    device_id: DeviceRef | None = None


class Refresh(Struct, frozen=True):
    """A refresh token works once; using one again logs its device out."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)]


async def log_in(services: Services, call: Call) -> Tokens:
    body: LogIn = call.body
    name = check_name(body.device_name, services.live.limits, "device_name") if body.device_name else ""
    return await services.sessions.log_in(body.username, body.password, call.address, body.device_id, name)


async def refresh(services: Services, call: Call) -> Tokens:
    body: Refresh = call.body
    return await services.sessions.refresh(body.refresh_token)


async def log_out(services: Services, call: Call) -> None:
    await services.sessions.log_out(call.user_id, [call.caller.device_id])


async def log_out_everywhere(services: Services, call: Call) -> None:
    await services.sessions.log_out(call.user_id, None)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/sessions",
        "logIn",
        "Log a device in",
        log_in,
        answer=Tokens,
        status=201,
        body=LogIn,
        public=True,
        errors=(
            Code.WRONG_CREDENTIALS,
            Code.ACCOUNT_SUSPENDED,
            Code.CONFLICT,
            Code.FORBIDDEN,
            Code.BUSY,
        ),
        tag="accounts",
    ),
    Operation(
        "POST",
        "/v1/sessions/refresh",
        "refreshSession",
        "New tokens for a refresh token",
        refresh,
        answer=Tokens,
        body=Refresh,
        public=True,
        errors=(Code.UNAUTHENTICATED, Code.TOKEN_EXPIRED, Code.TOKEN_REUSED, Code.DEVICE_REVOKED),
        tag="accounts",
    ),
    Operation(
        "DELETE",
        "/v1/sessions/current",
        "logOut",
        "Log this device out; its sockets close at once",
        log_out,
        status=204,
        tag="accounts",
    ),
    Operation(
        "DELETE",
        "/v1/sessions",
        "logOutEverywhere",
        "Log all devices out",
        log_out_everywhere,
        status=204,
        tag="accounts",
    ),
)
