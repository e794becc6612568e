"""What people's commands share: options, where the cluster is, who one is, and errors as one line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer
from msgspec import Struct

from chatclient.cli.sessions import Session, SessionFile
from chatclient.control import Control, Refused, same_place
from chatclient.errors import Closed, NotKept, Unreachable
from chatclient.files import read_json
from chatclient.http import Api, Credentials
from chatkernel.errors import ChatError

RETRY_FOR_S = 3.0
"""A person at a terminal wants to know soon that nobody is there."""

URL = Annotated[
    str | None, typer.Option("--url", help="The cluster's URL. [default: that of the data directory]")
]
DATA = Annotated[
    Path,
    typer.Option(
        "--data", envvar="CHATCTL_DATA", help="The cluster's data directory; sessions are kept there."
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object (or one a line) for programs.")]
AS = Annotated[str, typer.Option("--as", help="Who you are: a user name that signed up or logged in here.")]

T = TypeVar("T")


class Fail(Exception):
    """The command cannot go on; the message is the one line that the person gets."""


class _Account(Struct, frozen=True):
    password: str
    user_id: str = ""


def run(work: Coroutine[Any, Any, T], fails_with: int = 1) -> T:
    """Runs a command to its end. Every error that can be expected is one line and this exit code."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_interruptible(work))
    except Fail as error:
        _say(str(error))
    except ChatError as error:
        _say(error.detail)
    except (Unreachable, Refused) as error:
        _say(str(error))
    except NotKept as error:
        _say(f"what this device keeps on disk cannot be used: {error}")
    except Closed as error:
        _say(error.reason)
    except OSError as error:
        _say(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
    raise typer.Exit(fails_with)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM and a closed terminal end a command as Ctrl-C does: sockets are closed, the cache is written, and
    what a drill has broken is mended."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await work


def _say(line: str) -> None:
    typer.echo(" ".join(line.split()), err=True)


def fail(line: str) -> NoReturn:
    raise Fail(line)


async def base_url(url: str | None, data: Path) -> str:
    """What was given, else what the cluster of the data directory says of itself. Never a guess: whoever answers
    there is told passwords. Raises Fail."""
    if url:
        return url if "://" in url else f"http://{url}"
    if not data.is_dir():  # noqa: ASYNC240 - one look, before anything runs
        fail(
            f"there is no data directory {data}: go to the folder where the cluster was started, "
            "or name its directory with --data DIR, or its address with --url URL"
        )
    try:
        return (await Control(data).status()).url
    except Unreachable:
        fail(
            f"no cluster is running on {data}: start it (`make run` or `chatctl up`), "
            "or name another's directory with --data DIR, or its address with --url URL"
        )


def session_path(data: Path, name: str) -> Path:
    if not name or "/" in name or name.startswith("."):
        fail(f"{name!r} is not a user name")
    return data / "sessions" / f"{name.lower()}.json"


def session_file(data: Path, name: str, url: str = "") -> SessionFile:
    """`url`: what the session is to say of its cluster, see `Session`."""
    return SessionFile(session_path(data, name), name, url)


async def url_to_keep(url: str | None, data: Path) -> str:
    """What a new session is to say of the cluster that was given: nothing when it is the data directory's own."""
    if not url:
        return ""
    given = await base_url(url, data)
    try:
        own = (await Control(data).status()).url
    except (Unreachable, Refused):
        return given
    return "" if same_place(given, own) else given


async def api_as(name: str, url: str | None, data: Path) -> Api:
    """The API as that person: by a session kept here, else by the accounts that `chatctl up` made."""
    session = read_json(session_path(data, name), Session)
    account = (read_json(data / "accounts.json", dict[str, _Account]) or {}).get(name)
    if session is None and account is None:
        await base_url(url, data)  # a newcomer in another folder is told that first
        fail(f"nobody here is called {name}: `chatctl signup {name}` or `chatctl login {name}` first")
    kept = "" if session is None else session.url
    return Api(
        await base_url(url or kept, data),
        tokens=None if session is None else session.tokens,
        credentials=None if account is None else Credentials(name, account.password),
        store=session_file(data, name, kept),
        retry_for_s=RETRY_FOR_S,
    )


def out(as_json: bool, thing: object, line: str) -> None:
    """One result, for a program or for a person."""
    typer.echo(msgspec.json.encode(thing).decode() if as_json else line)
