"""Signing up, and the password."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Call, Operation
from apipod.services import Services
from apipod.sessions import Tokens, check_username
from chatkernel.errors import Code
from chatkernel.protocol import PASSWORD_MAX_CHARS, USERNAME_MAX_CHARS
from chatkernel.validation import check_name

Password = Annotated[
    str,
    Meta(
        max_length=PASSWORD_MAX_CHARS,
        description="From `password_min_chars` to `password_max_chars` characters (see the limits)",
    ),
]
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=USERNAME_MAX_CHARS,
        pattern="^[A-Za-z0-9_.-]{3,64}$",
        description="Unique without regard to case; kept in lower case; at most `username_max_chars` characters",
    ),
]
DeviceRef = Annotated[str, Meta(min_length=4, max_length=64, pattern="^[A-Za-z0-9_.-]{4,64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=1024, description="At most `name_max_chars` characters")]


class NewAccount(Struct, frozen=True):
    """`device_id` is the client's wish: a device keeps it over log-ins. The answer says which it got."""

    username: Username
    password: Password
    display_name: Name | None = None
    device_name: Name | None = None
    device_id: DeviceRef | None = None


class PasswordChange(Struct, frozen=True):
    """Other devices are logged out unless `keep_other_devices`."""

    current: Annotated[str, Meta(max_length=PASSWORD_MAX_CHARS)]
    new: Password
    keep_other_devices: bool = False


async def sign_up(services: Services, call: Call) -> Tokens:
    body: NewAccount = call.body
    limits = services.live.limits
    username = check_username(body.username, limits)
    display_name = check_name(body.display_name or body.username, limits, "display_name")
    device_name = check_name(body.device_name, limits, "device_name") if body.device_name else ""
    user = services.sessions.new_user(username, display_name)
    return await services.sessions.sign_up(user, body.password, call.address, body.device_id, device_name)


async def change_password(services: Services, call: Call) -> None:
    body: PasswordChange = call.body
    await services.sessions.change_password(call.caller, body.current, body.new, body.keep_other_devices)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/accounts",
        "signUp",
        "Make an account and log this device in",
        sign_up,
        answer=Tokens,
        status=201,
        body=NewAccount,
        public=True,
        errors=(Code.USERNAME_TAKEN, Code.CONFLICT, Code.FORBIDDEN, Code.BUSY),
        tag="accounts",
    ),
    Operation(
        "PUT",
        "/v1/me/password",
        "changePassword",
        "Change the password; the other devices are logged out",
        change_password,
        status=204,
        body=PasswordChange,
        errors=(Code.WRONG_CREDENTIALS, Code.FORBIDDEN, Code.BUSY),
        tag="accounts",
    ),
)
