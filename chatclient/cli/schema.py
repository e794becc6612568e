"""`chatctl schema`: what a store lacks of its tables, collections and indexes, and making it so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from chatclient.cli.cluster import DEFAULT_DATA, AsJson, Data
from chatclient.cli.stores import File, Store, fail, meant, run, sqlite_files
from chatkernel.storage.schema_step import Placement, SchemaStep, StepKind

DIFFERS = 1
"""Exit code."""

Allow = Annotated[
    bool,
    typer.Option("--allow-destructive", help="Remove what is not of the schema, and replace what differs"),
]

WORDS = {
    StepKind.ADDS: "",
    StepKind.REMOVES: "destructive",
    StepKind.REPLACES: "destructive",
    StepKind.BY_HAND: "by hand",
}


class Step(Struct, frozen=True):
    does: str
    kind: StepKind
    destructive: bool


class Told(Struct, frozen=True, omit_defaults=True):
    """What a command tells a program. `store` is without user and password; `ok`: the store lacks nothing. `steps`
    are still to be done, `done` were done now."""

    store: str
    ok: bool
    steps: list[Step]
    done: list[Step] | None = None


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="schema", help="The store's tables, collections and indexes.", no_args_is_help=True
    )
    for command in (plan, apply, check):
        group.command()(command)
    app.add_typer(group)


def plan(store: Store = None, file: File = None, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Print what `apply` would do, in order, and what of it is destructive. Changes nothing."""
    url, wanted = _meant(store, file, data, makes=False)
    _tell(url, run(_plan(url, wanted)), as_json=as_json)


def apply(
    store: Store = None,
    file: File = None,
    data: Data = DEFAULT_DATA,
    allow_destructive: Allow = False,
    as_json: AsJson = False,
) -> None:
    """Do it. Safe while the cluster runs, several times, and from several places at once.

    Exit code 1 when the store still lacks something.
    """
    url, wanted = _meant(store, file, data, makes=True)
    done, left = run(_apply(url, wanted, allow_destructive))
    _tell(url, left, done, as_json=as_json)
    _exit(left)


def check(store: Store = None, file: File = None, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Exit code 1 when the store lacks something, and what. What is too much in it is told, and is no fault."""
    url, wanted = _meant(store, file, data, makes=False)
    steps = run(_plan(url, wanted))
    _tell(url, steps, as_json=as_json)
    _exit(steps)


def _meant(store: str | None, file: Path | None, data: Path, *, makes: bool) -> tuple[str, Placement]:
    url, wanted = meant(store, file, data)
    for path in sqlite_files(url):
        if path is not None and not makes and not path.exists():
            fail(f"there is no {path} yet: `chatctl schema apply` makes it")
    return url, wanted


async def _plan(url: str, wanted: Placement) -> list[SchemaStep]:
    from chatkernel.storage.open import open_store

    store = await open_store(url)
    try:
        return await store.plan_schema(wanted)
    finally:
        await store.aclose()


async def _apply(
    url: str, wanted: Placement, allow_destructive: bool
) -> tuple[list[SchemaStep], list[SchemaStep]]:
    """What was done, and what there still is to do."""
    from chatkernel.storage.open import open_store

    store = await open_store(url)
    try:
        done = await store.ensure_schema(wanted, allow_destructive=allow_destructive)
        return done, await store.plan_schema(wanted)
    finally:
        await store.aclose()


def _lacking(steps: Sequence[SchemaStep]) -> bool:
    return any(step.lacking for step in steps)


def _exit(steps: Sequence[SchemaStep]) -> None:
    if _lacking(steps):
        raise typer.Exit(DIFFERS)


def _tell(
    url: str, steps: Sequence[SchemaStep], done: Sequence[SchemaStep] | None = None, *, as_json: bool
) -> None:
    from chatkernel.storage.url import shown_url

    shown = shown_url(url)
    if as_json:
        told = Told(shown, not _lacking(steps), _steps(steps), None if done is None else _steps(done))
        typer.echo(msgspec.json.encode(told).decode())
        return
    if done:
        _table(f"{shown}: done", done)
    if steps:
        _table(f"{shown}: to be done", steps)
        if any(step.destructive for step in steps):
            typer.echo("What is destructive is done only with --allow-destructive.")
    if not done and not steps:
        typer.echo(f"{shown}: nothing to do")


def _steps(steps: Sequence[SchemaStep]) -> list[Step]:
    return [Step(step.does, step.kind, step.destructive) for step in steps]


def _table(title: str, steps: Sequence[SchemaStep]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    for number, step in enumerate(steps, start=1):
        table.add_row(str(number), Text(step.does), WORDS[step.kind])
    Console(highlight=False).print(table)
