"""Two people who are ready to talk: made through the API at the first start, their passwords kept for `chatctl`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from chatoperator.datadir import write_private
from chatoperator.minihttp import Answer, PodHttp

log = logging.getLogger(__name__)

NAMES = ("alice", "bob")
TIMEOUT_S = 10.0


class Account(Struct, frozen=True):
    """`user_id` is empty until the account was made."""

    password: str
    user_id: str = ""


class AccountsError(Exception):
    """The API refused; the message holds no password."""


def read_accounts(path: Path) -> dict[str, Account]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Account])
    except (OSError, msgspec.DecodeError):
        return {}


async def ensure_accounts(path: Path, http: PodHttp) -> dict[str, Account]:
    """Alice and Bob, friends, with a channel of their own. Raises AccountsError and OSError.

    Passwords are written before they are used, so a start that is cut short is taken up by the next.
    """
    accounts = read_accounts(path)
    if all(accounts.get(name, Account("")).user_id for name in NAMES):
        return accounts
    accounts |= {name: Account(secrets.token_urlsafe(9)) for name in NAMES if name not in accounts}
    write_private(path, msgspec.json.encode(accounts))
    tokens = {}
    for name in NAMES:
        user_id, tokens[name] = await _sign_up(http, name, accounts[name].password)
        accounts[name] = Account(accounts[name].password, user_id)
    first, second = (accounts[name].user_id for name in NAMES)
    await _call(http, "PUT", f"/v1/friends/{second}", tokens[NAMES[0]])
    await _call(http, "PUT", f"/v1/friends/{first}", tokens[NAMES[1]])
    await _call(http, "POST", "/v1/channels", tokens[NAMES[0]], {"kind": "direct", "user_id": second})
    for name in NAMES:  # they were made on this device, which is not one of theirs
        await _call(http, "DELETE", "/v1/sessions/current", tokens[name])
    write_private(path, msgspec.json.encode(accounts))
    return accounts


async def _sign_up(http: PodHttp, name: str, password: str) -> tuple[str, str]:
    body = {"username": name, "password": password, "display_name": name.capitalize()}
    answer = await http.request("POST", "/v1/accounts", body=body, timeout_s=TIMEOUT_S)
    if answer.status == 409:  # made by a start that was cut short
        answer = await http.request(
            "POST", "/v1/sessions", body={"username": name, "password": password}, timeout_s=TIMEOUT_S
        )
    fields = _checked(answer, f"sign up {name}")
    return str(fields["user_id"]), str(fields["access_token"])


async def _call(http: PodHttp, method: str, path: str, token: str, body: object = None) -> None:
    headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"}
    answer = await http.request(method, path, headers=headers, body=body, timeout_s=TIMEOUT_S)
    if answer.status != 409:
        _checked(answer, f"{method} {path}")


def _checked(answer: Answer, what: str) -> dict[str, Any]:
    fields = answer.json()
    if answer.status >= 300:
        raise AccountsError(
            f"{what}: {answer.status} {fields.get('code', '')} {fields.get('detail', '')}".strip()
        )
    return fields
