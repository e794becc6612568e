"""Commands of people: sign up, log in and out, talk, listen, read back."""

from __future__ import annotations

import secrets
import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from chatclient.cli.common import (
    AS,
    DATA,
    JSON,
    RETRY_FOR_S,
    URL,
    Fail,
    api_as,
    base_url,
    out,
    run,
    session_file,
    session_path,
    url_to_keep,
)
from chatclient.cli.listen import Ear
from chatclient.cli.names import Names, Profile
from chatclient.errors import Unreachable
from chatclient.http import Api
from chatkernel.errors import ChatError, Code
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import Ack, EventKind, History, HistoryItem, Page, Send
from chatkernel.storage.model import ChannelState, ConversationPage

DATA_DEFAULT = Path(".chatcluster")

To = Annotated[str, typer.Argument(help="A user name, or a channel's id.")]
Password = Annotated[
    str | None, typer.Option("--password", help="Asked for when not given.", envvar="CHATCTL_PASSWORD")
]


class SignedIn(Struct, frozen=True):
    username: str
    user_id: str
    device_id: str


def register(app: typer.Typer) -> None:
    for command in (signup, login, logout, send, listen, history, channels, group):
        app.command()(command)


def _password(given: str | None, *, twice: bool) -> str:
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise Fail("no password: give --password or set CHATCTL_PASSWORD")
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=twice, err=True)
    return typed


def signup(
    name: Annotated[str, typer.Argument(help="The user name you want.")],
    password: Password = None,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Make an account, and log in with it here."""
    run(_enter(name, password, url, data, as_json, new=True))


def login(
    name: Annotated[str, typer.Argument(help="Your user name.")],
    password: Password = None,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Log in here; the session is kept in the data directory."""
    run(_enter(name, password, url, data, as_json, new=False))


async def _enter(
    name: str, password: str | None, url: str | None, data: Path, as_json: bool, *, new: bool
) -> None:
    session_path(data, name)  # refuses what cannot be a name before a password is typed
    where = await base_url(url, data)
    secret = _password(password, twice=new)
    api = Api(where, retry_for_s=RETRY_FOR_S)
    try:
        enter = api.sign_up if new else api.log_in
        tokens = await enter(name, secret, device_name="chatctl")
    finally:
        await api.close()
    kept = session_file(data, name, await url_to_keep(url, data))
    async with kept.turn():  # another process that renews the old session now must not write over this one
        kept.keep(tokens)
    who = SignedIn(name, tokens.user_id, tokens.device_id)
    out(as_json, who, f"{name} is {'signed up and ' if new else ''}logged in ({tokens.user_id})")


def logout(
    name: Annotated[str, typer.Argument(help="Whose session.")],
    everywhere: Annotated[bool, typer.Option("--everywhere", help="On all devices.")] = False,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Log out here, or on all devices."""

    async def work() -> None:
        api = await api_as(name, url, data)
        kept = session_file(data, name)
        try:
            await api.log_out(everywhere=everywhere)
        except ChatError as error:
            if error.status != 401:  # an ended session is what was wanted
                raise
        finally:
            await api.close()
        async with kept.turn():
            kept.forget()
        out(as_json, {"username": name, "everywhere": everywhere}, f"{name} is logged out")

    run(work())


def send(  # noqa: PLR0917 - options of a command line
    to: To,
    text: Annotated[str, typer.Argument(help="What to say.")],
    who: AS,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Say something to a person (their 1:1 is opened if need be) or in a channel; returns when it is stored."""

    async def work() -> None:
        api = await api_as(who, url, data)
        try:
            channel_id = await _channel(api, to)
            key = new_client_msg_id()
            frames = await api.frames(Send("s1", channel_id, key, text))
        finally:
            await api.close()
        ack = next((frame for frame in frames if isinstance(frame, Ack)), None)
        if ack is None:
            raise Unreachable("the server gave no answer to the message")
        out(as_json, ack, f"stored as seq {ack.seq}")

    run(work())


async def _channel(api: Api, to: str) -> str:
    """The channel of that id, or the 1:1 with the person of that name."""
    if "_" in to:
        try:
            state = await api.call("GET", f"/v1/channels/{to}", kind=ChannelState)
        except ChatError as error:
            # A user name may look like a channel's id.
            if error.code not in (Code.CHANNEL_NOT_FOUND, Code.NOT_FOUND):
                raise
        else:
            return state.channel_id
    try:
        profile = await api.call("GET", "/v1/users", kind=Profile, params={"username": to})
    except ChatError as error:
        if error.code is Code.USER_NOT_FOUND:
            raise Fail(f"there is nobody and no channel of yours called {to}") from error
        raise
    body = {"kind": "direct", "user_id": profile.user_id}
    state = await api.call("POST", "/v1/channels", body, kind=ChannelState, retry=True)
    return state.channel_id


def listen(
    who: AS,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Where lines you type go. [default: where the last one came from]"),
    ] = None,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Show messages as they come, until Ctrl-C; what you type is sent as an answer."""

    async def work() -> None:
        api = await api_as(who, url, data)
        target = None
        try:
            if to is not None:
                target = await _channel(api, to)
        finally:
            await api.close()
        ear = Ear(api, who, data, target=target, as_json=as_json)
        async with aclosing(ear.client_lines()) as lines:
            async for line in lines:
                typer.echo(line)

    run(work())


def history(  # noqa: PLR0917 - options of a command line
    to: To,
    who: AS,
    limit: Annotated[int, typer.Option(help="How many messages.", min=1, max=200)] = 20,
    before: Annotated[int | None, typer.Option(help="Only what is before this seq.")] = None,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Read back a conversation."""

    async def work() -> None:
        api = await api_as(who, url, data)
        try:
            channel_id = await _channel(api, to)
            frames = await api.frames(History("h1", channel_id, before=before, limit=limit))
            items = [item for frame in frames if isinstance(frame, Page) for item in frame.items]
            names = Names(api)
            await names.learn(item.event.sender_id for item in items)
        finally:
            await api.close()
        for item in items:
            out(as_json, item, item_line(item, names))

    run(work())


def item_line(item: HistoryItem, names: Names) -> str:
    """`12  09:14 alice: hello (edited)  👍 2`."""
    event = item.event
    at = datetime.fromtimestamp(event.created_at / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if event.kind is not EventKind.MESSAGE:
        return f"{event.seq:>5}  {at}  {names.what_happened(event)}"
    text = "(deleted)" if item.deleted else f"{event.text}{' (edited)' if item.edited_at else ''}"
    reactions = "".join(f"  {emoji} {len(users)}" for emoji, users in (item.reactions or {}).items())
    return f"{event.seq:>5}  {at}  {names.of(event.sender_id)}: {text}{reactions}"


def channels(
    who: AS,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 30,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """My conversations, newest activity first."""

    async def work() -> None:
        api = await api_as(who, url, data)
        try:
            path, params = "/v1/channels", {"limit": limit}
            page = await api.call("GET", path, kind=ConversationPage, params=params)
            names = Names(api)
            await names.learn(user_id for line in page.conversations for user_id in line.members)
        finally:
            await api.close()
        for line in page.conversations:
            title = line.name or ", ".join(names.of(user_id) for user_id in line.members)
            unread = f"  {line.unread} unread" if line.unread else ""
            out(as_json, line, f"{line.channel_id}  {title} ({line.member_count}){unread}")

    run(work())


def group(  # noqa: PLR0917 - options of a command line
    name: Annotated[str, typer.Argument(help="What the group is called.")],
    members: Annotated[list[str], typer.Argument(help="User names.")],
    who: AS,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Make a group of which you are the owner."""

    async def work() -> None:
        api = await api_as(who, url, data)
        try:
            ids = []
            for member in members:
                params = {"username": member}
                ids.append((await api.call("GET", "/v1/users", kind=Profile, params=params)).user_id)
            body = {"kind": "group", "name": name, "members": ids, "client_id": secrets.token_hex(10)}
            state = await api.call("POST", "/v1/channels", body, kind=ChannelState, retry=True)
        finally:
            await api.close()
        out(as_json, state, f"{state.channel_id}  {state.name} ({state.member_count})")

    run(work())
