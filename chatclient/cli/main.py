"""`chatctl`: the commands of a cluster (`cluster.py`), of its store (`schema.py`, `backup.py`), of people
(`people.py`), about how long things live (`lifecycle.py`), the drill (`drill.py`), and of clusters on Kubernetes
(`kube.py`)."""

from __future__ import annotations

import sys

import typer

from chatclient.cli import backup, cluster, kube, schema

QUICK = cluster.NAMES | {"schema", "backup", "kube"}


def make_app(command: str = "") -> typer.Typer:
    """With every command; with the cluster's and the store's alone when `command` is one of those: importing the
    client library takes half a second, and `up` is to be quick."""
    app = typer.Typer(
        name="chatctl",
        help="Run a chat cluster, look at it, and talk in it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cluster.register(app)
    schema.register(app)
    backup.register(app)
    app.add_typer(kube.make_app("kube"))
    if command not in QUICK:
        from chatclient.cli import drill, lifecycle, people

        people.register(app)
        lifecycle.register(app)
        drill.register(app)
    return app


def main() -> None:
    """The console script."""
    make_app(sys.argv[1] if len(sys.argv) > 1 else "")()


if __name__ == "__main__":
    main()
