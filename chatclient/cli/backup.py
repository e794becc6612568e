"""`chatctl backup` and `chatctl restore`: copies of an SQLite store. docs/backup.md has the other stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from chatclient.cli.cluster import DEFAULT_DATA, STORE_ENV, AsJson, Data
from chatclient.cli.stores import File, fail, meant, plainly, sqlite_files

if TYPE_CHECKING:  # `up` is to be quick, and this loads the database library
    from chatkernel.storage.sql.copies import Copied

Copy = Annotated[Path, typer.Argument(metavar="COPY", help="The copy's file")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", envvar=STORE_ENV, help="The store's URL. [default: that of the data directory]"),
]


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(
    copy: Copy,
    store: StoreOption = None,
    file: File = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Copy an SQLite store into one file, also while the cluster runs. An existing file is not overwritten."""
    from chatkernel.storage.sql.copies import copy_out

    path = _sqlite(store, file, data)
    _told(plainly(lambda: copy_out(path, copy)), "copied to", as_json)


def restore(copy: Copy, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Put a copy in the place of the data directory's store. The cluster must not run.

    What was there is kept beside it, as chat.db.replaced.
    """
    from chatkernel.storage.sql.copies import put_back
    from chatoperator.datadir import DataDir, UpError

    folder = DataDir(data)
    try:
        folder.create()
        folder.lock()
    except UpError as error:
        fail(str(error))
    try:
        _told(plainly(lambda: put_back(copy, folder.database)), "restored from", as_json)
    finally:
        folder.unlock()


def _sqlite(store: str | None, file: Path | None, data: Path) -> Path:
    path, *others = sqlite_files(meant(store, file, data)[0])
    if others:
        fail(
            "there are two stores: back up each by itself, one after the other with --store URL (docs/backup.md)"
        )
    if path is None:
        fail("this copies SQLite stores alone: docs/backup.md has the commands of the other databases")
    return path


def _told(copied: Copied, words: str, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(copied).decode())
    else:
        typer.echo(
            f"{words} {copied.path}: {copied.events} events, {copied.bytes} bytes, "
            f"schema version {copied.schema_version}"
        )
