"""What the commands of a store share: which store is meant, and errors as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from chatclient.cli.cluster import STORE_ENV
from chatkernel.storage.schema_step import ANYWHERE, Placement
from chatkernel.storage.url import parts_of

FAILED = 2
"""Exit code; 1 is kept for a store that differs."""

Store = Annotated[
    str | None,
    typer.Argument(
        envvar=STORE_ENV,
        help="The store's URL, over the file's; with a password better in the variable. "
        "[default: SQLite in the data directory]",
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", help="The cluster's file: its store, and its zones on a sharded one")
]

T = TypeVar("T")


def meant(store: str | None, file: Path | None, data: Path) -> tuple[str, Placement]:
    """The URL, and where a store with shards is to keep what."""
    from chatoperator.datadir import DataDir
    from chatoperator.specfile import SpecError, load_cluster
    from chatoperator.storesource import UrlFromError, placement, store_url

    wanted = ANYWHERE
    if file is not None:
        try:
            spec = load_cluster(file).spec
            wanted = placement(spec)
            store = store or store_url(spec)
        except (SpecError, UrlFromError) as error:
            fail(str(error))
    if store:
        return store, wanted
    database = DataDir(data).database
    if file is None and not database.exists():
        fail(f"which store? Give its URL, --file FILE, or {STORE_ENV}: there is no {database}")
    return f"sqlite:///{database}", wanted


def sqlite_files(url: str) -> list[Path | None]:
    """Of each store that the URL names, the messages' first, its file. None: it is another kind of store."""
    return [_sqlite_file(part) for part in parts_of(url)]


def _sqlite_file(url: str) -> Path | None:
    scheme, _, path = url.partition(":///")
    # A path is shown. What has a URL in it may hold a password, and the adapter refuses it.
    return Path(path) if scheme.partition("+")[0] == "sqlite" and "://" not in path else None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end; errors as `plainly` has them."""
    return plainly(lambda: asyncio.run(work))


def plainly(work: Callable[[], T]) -> T:
    """Every error that can be expected is one line and exit code 2."""
    from chatkernel.errors import ChatError

    try:
        return work()
    except ChatError as error:
        fail(error.detail)
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(FAILED)
