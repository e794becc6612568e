"""`chatctl`: the commands of a cluster (`cluster.py`), of people (`people.py`), and the drill (`drill.py`)."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import typer

from chatclient.cli import cluster

app = typer.Typer(
    name="chatctl",
    help="Run a chat cluster, look at it, and talk in it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cluster.register(app)
for part in ("people", "drill"):
    if find_spec(f"chatclient.cli.{part}"):
        importlib.import_module(f"chatclient.cli.{part}").register(app)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
