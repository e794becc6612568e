"""One's own profile and settings."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from apipod.operation import Answer, Call, Operation
from apipod.services import Services
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.protocol import PROFILE_FIELD_MAX_CHARS, NoticeTopic
from chatkernel.storage.model import User, UserSettings
from chatkernel.validation import check_name, check_text

_AVATAR_URL = re.compile(r"https?://[\x21-\x7e]+")
_encoder = msgspec.json.Encoder()


ProfileText = Annotated[
    str,
    Meta(
        max_length=PROFILE_FIELD_MAX_CHARS,
        description="At most `about_max_chars`, `avatar_url_max_chars` characters",
    ),
]


class ProfileChange(Struct, frozen=True):
    """What is missing or null stays. Empty strings clear `about` and `avatar_url`."""

    display_name: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    about: ProfileText | None = None
    avatar_url: ProfileText | None = None


class SettingsChange(Struct, frozen=True):
    """All of the person's settings: what is not in `values` is gone."""

    values: dict[str, Any]


async def read_me(services: Services, call: Call) -> User:
    user = (await services.store.users([call.user_id])).get(call.user_id)
    if user is None:
        raise ChatError(Code.USER_NOT_FOUND)
    return user


async def change_me(services: Services, call: Call) -> User:
    body: ProfileChange = call.body
    limits = services.live.limits
    display_name = body.display_name
    if display_name is not None:
        display_name = check_name(display_name, limits, "display_name")
    if body.about:
        _check_length(body.about, limits.about_max_chars, "about")
        check_text(body.about, limits, "about")
    if body.avatar_url:
        _check_length(body.avatar_url, limits.avatar_url_max_chars, "avatar_url")
    if body.avatar_url and not _AVATAR_URL.fullmatch(body.avatar_url):
        raise invalid("avatar_url", "must be an http or https URL")
    user = await services.store.update_profile(
        call.user_id, display_name=display_name, about=body.about, avatar_url=body.avatar_url
    )
    services.announcer.notice(NoticeTopic.PROFILE, call.user_id)
    return user


async def read_settings(services: Services, call: Call) -> Answer:
    return _with_etag(await services.store.settings(call.user_id))


async def put_settings(services: Services, call: Call) -> Answer:
    """With `If-Match` only if nobody changed them meanwhile: of two devices that change at once, one is
    told."""
    body: SettingsChange = call.body
    _check_settings(body.values, services.live.limits.settings_max_bytes)
    stored = await services.store.put_settings(
        call.user_id, body.values, _expected_version(call.headers["if-match"])
    )
    if stored is None:
        raise ChatError(Code.CONFLICT, "The settings have another version by now", field="If-Match")
    services.announcer.notice(NoticeTopic.SETTINGS, call.user_id)
    return _with_etag(stored)


def _with_etag(settings: UserSettings) -> Answer:
    return Answer(settings, 200, {"etag": f'"{settings.version}"'})


def _expected_version(if_match: str) -> int | None:
    plain = if_match.strip().removeprefix("W/").strip('"')
    if plain in ("", "*"):
        return None
    if not (plain.isascii() and plain.isdigit() and len(plain) <= 18):
        raise invalid("If-Match", "must be the ETag of the settings that were read")
    return int(plain)


def _check_length(text: str, most: int, field: str) -> None:
    if len(text) > most:
        raise invalid(field, f"at most {most} characters", most)


def _check_settings(values: dict[str, Any], most: int) -> None:
    try:
        encoded = _encoder.encode(values)
    except (msgspec.MsgspecError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise invalid("values", "is not a JSON object that can be stored") from error
    if len(encoded) > most:
        raise invalid("values", f"at most {most} bytes as JSON", most)
    if rb"\u0000" in encoded:
        raise invalid("values", "may not hold a NUL character")


OPERATIONS = (
    Operation("GET", "/v1/me", "readMe", "My profile", read_me, answer=User, tag="people"),
    Operation(
        "PATCH",
        "/v1/me",
        "changeMe",
        "Change my profile",
        change_me,
        answer=User,
        body=ProfileChange,
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/me/settings",
        "readSettings",
        "My settings, with their version as ETag",
        read_settings,
        answer=UserSettings,
        tag="people",
    ),
    Operation(
        "PUT",
        "/v1/me/settings",
        "putSettings",
        "Replace my settings; with If-Match only the version that was read",
        put_settings,
        answer=UserSettings,
        body=SettingsChange,
        headers=("if-match",),
        errors=(Code.CONFLICT,),
        tag="people",
    ),
)
