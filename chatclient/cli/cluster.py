"""Commands of a cluster on this machine: up, status, scale, drain, undrain, kill."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

DEFAULT_DATA = Path(".chatcluster")
DATA_ENV = "CHATCTL_DATA"
REDIS_ENV = "CHATCTL_REDIS"
STORE_ENV = "CHATCTL_STORE"
"""For URLs with a password, which others could read off the command line."""

Data = Annotated[
    Path, typer.Option("--data", envvar=DATA_ENV, help="The cluster's data directory", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs")]
Pod = Annotated[str, typer.Argument(help="A pod's name, as `chatctl status` shows it")]


NAMES = frozenset({"up", "status", "scale", "drain", "undrain", "kill"})


def register(app: typer.Typer) -> None:
    for command in (up, status, scale, drain, undrain, kill):
        app.command()(command)


def up(
    file: Annotated[
        Path | None, typer.Argument(help="A ChatCluster as YAML; without one, the defaults")
    ] = None,
    data: Data = DEFAULT_DATA,
    *,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Over the file's apiPods.port; 0: any free one")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            envvar=REDIS_ENV,
            help="URL of a Redis 7 or Valkey 7.2 or newer (redis://, redis+sentinel://, redis+cluster://, rediss…), "
            "over the file's",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar=STORE_ENV,
            help="URL of the store (postgresql://, mongodb://, sqlite:///file), over the file's",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a cluster here until Ctrl-C: Redis, API pods, chat pods and a worker, on SQLite or a store of yours."""
    from chatoperator.datadir import UpError
    from chatoperator.laptop import Options
    from chatoperator.laptop import up as run_up

    options = Options(
        data=data,
        file=file,
        port=port,
        redis_url=redis,
        store_url=store,
        as_json=as_json,
        program=shlex.quote(_program()),
        data_option="" if data == DEFAULT_DATA else f" --data {shlex.quote(str(data))}",
    )
    try:
        asyncio.run(run_up(options))
    except UpError as error:
        _fail(str(error))
    except KeyboardInterrupt:  # before the handlers were in place
        raise typer.Exit(130) from None


def status(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """The pods of the running cluster."""
    from rich.console import Console

    from chatoperator.display import render

    answer = _ask(data, do="status")
    if as_json:
        _print_json(answer)
    else:
        Console(highlight=False).print(render(answer))
        if answer.get("problem"):
            typer.echo(answer["problem"], err=True)


def scale(
    replicas: Annotated[int, typer.Argument(min=1, max=1000, help="How many chat pods")],
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Change the number of chat pods, until the file says otherwise."""
    answer = _ask(data, do="scale", replicas=replicas)
    _told(answer, f"{replicas} chat pods wanted", as_json)


def drain(pod: Pod, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Replace a pod: a new one starts, then this one moves its clients and goes."""
    _told(_ask(data, do="drain", pod=pod), f"{pod} will be replaced and drained", as_json)


def undrain(pod: Pod, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Take a drain back, while the pod is still there."""
    _told(_ask(data, do="undrain", pod=pod), f"{pod} stays", as_json)


def kill(pod: Pod, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Kill a pod's process without warning (SIGKILL), to see what happens."""
    _told(_ask(data, do="kill", pod=pod), f"{pod} killed", as_json)


def _ask(data: Path, **fields: Any) -> dict[str, Any]:
    from chatoperator.control import ControlError, Request, ask
    from chatoperator.datadir import DataDir, UpError

    if not data.is_dir():
        _fail(f"there is no data directory {data}: start a cluster with `chatctl up`, or give --data DIR")
    try:
        return asyncio.run(ask(DataDir(data).control_socket(), Request(**fields)))
    except (UpError, ControlError) as error:
        _fail(str(error))


def _told(answer: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
    else:
        typer.echo(text)


def _print_json(answer: dict[str, Any]) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)


def _program() -> str:
    """How a person in this folder calls this program."""
    here = Path(sys.argv[0]).absolute()
    found = shutil.which("chatctl")
    if found is not None and Path(found).resolve() == here.resolve():
        return "chatctl"
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)
