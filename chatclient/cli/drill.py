"""`chatctl drill`: load and faults on a running cluster, and whether it kept its promises."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from chatclient.cli.common import DATA, JSON, URL, Fail, base_url, run
from chatclient.control import Control
from chatclient.drill.arena import DrillError
from chatclient.drill.report import Report, table_of
from chatclient.drill.runner import Drill
from chatclient.drill.shape import DrillOptions

PROGRESS_EVERY_S = 5.0

CANNOT_RUN = 2
"""Exit code; 1 is kept for broken promises."""

QUICK = {"users": 40, "channels": 16, "rate": 60.0, "duration": 10.0}


def register(app: typer.Typer) -> None:
    app.command("drill")(drill)


def drill(  # noqa: PLR0917 - options of a command line
    users: Annotated[int | None, typer.Option(help="People. [default: 200]", min=4)] = None,
    channels: Annotated[
        int | None, typer.Option(help="Channels of 2, 20 and 200. [default: 60]", min=3)
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Messages per second. [default: 200]", min=0.1)] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds, longer if the faults take longer. [default: 60]", min=1)
    ] = None,
    devices: Annotated[float, typer.Option(help="Devices per user, on average.", min=1)] = 1.5,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="A fault, or several at once joined by +, or `all`, or exec:PROGRAM or exec:NAME=PROGRAM. "
            "May be given several times."
        ),
    ] = None,
    times: Annotated[int, typer.Option(help="How often each fault.", min=1)] = 1,
    hold: Annotated[float, typer.Option(help="Seconds that the fault of a PROGRAM lasts.", min=0)] = 5.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same load.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer people, less load, 10 s.")] = False,
    url: URL = None,
    data: DATA = Path(".chatcluster"),
    as_json: JSON = False,
) -> None:
    """Send from many people, break things, and check that nothing was lost, doubled or out of order.

    exec:PROGRAM is a fault of your own: PROGRAM is called with the one word `strike`, and after --hold seconds
    with `heal`, also when the drill fails or is interrupted. CHATCTL_URL and CHATCTL_DATA say which cluster is
    drilled. An exit code other than 0, or more than 120 s, ends the drill.

    Exit code 1 when a promise was broken, 2 when the drill could not be run.
    """
    options = DrillOptions(
        users=users or (int(QUICK["users"]) if quick else 200),
        channels=channels or (int(QUICK["channels"]) if quick else 60),
        rate=rate or (QUICK["rate"] if quick else 200.0),
        duration_s=duration or (QUICK["duration"] if quick else 60.0),
        devices=devices,
        faults=tuple(fault or ()),
        times=times,
        hold_s=hold,
        seed=seed,
    )
    # A drill keeps millions of small records to its end: looking through them for garbage finds none, and
    # stops all its clients for a second at a time.
    gc.set_threshold(100_000, 50, 1_000)
    report = run(_drill(url, data, options, as_json), fails_with=CANNOT_RUN)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        console = Console()
        console.print(table_of(report))
        for line in (*report.broken, *report.details):
            console.print(f"  {line}", highlight=False, markup=False, emoji=False)
    if not report.kept:
        raise typer.Exit(1)


async def _drill(url: str | None, data: Path, options: DrillOptions, as_json: bool) -> Report:
    console = Console(stderr=True)
    status = console.status("starting") if console.is_terminal and not as_json else None

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, emoji=False)

    drill = Drill(
        await base_url(url, data), options, control=Control(data), book=data / "drill.json", tell=tell
    )

    async def show() -> None:
        while True:
            await asyncio.sleep(0.5 if status is not None else PROGRESS_EVERY_S)
            if line := drill.progress():
                if status is not None:
                    status.update(line)
                else:
                    tell(line)

    showing = asyncio.create_task(show(), name="drill progress")
    if status is not None:
        status.start()
    try:
        return await drill.run()
    except DrillError as error:
        raise Fail(str(error)) from error
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
        if status is not None:
            status.stop()
