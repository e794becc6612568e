"""`chatctl up --store URL`, or its environment variable, goes over the file's; what cannot be used is refused in a
line that shows no password."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from laptoprun import CHATCTL, SPEC, Up

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"


def refused(tmp_path: Path, url: str) -> str:
    """What it says instead of starting, with this URL in the environment."""
    up = subprocess.run(
        [CHATCTL, "up", "--data", tmp_path / "data", "--port", "0"],
        env={**os.environ, "CHATCTL_STORE": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert up.returncode == 1, up.stdout
    logs = "".join(file.read_text() for file in (tmp_path / "data").rglob("*.log"))
    assert SECRET not in up.stdout + up.stderr + logs
    return up.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://chat:{SECRET}@127.0.0.1:1/chat", "postgresql://127.0.0.1:1/chat"),
        (
            f"mongodb://chat:{SECRET}@127.0.0.1:1/chat?serverSelectionTimeoutMS=200",
            "mongodb://127.0.0.1:1/chat",
        ),
    ],
)
def test_a_store_that_is_not_there_is_refused(tmp_path: Path, url: str, shown: str) -> None:
    assert refused(tmp_path, url).startswith(f"the store at {shown} cannot be used: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://chat:{SECRET}@db/chat", "no adapter for 'mysql'; known: sqlite:///path/to/file.db, "),
        (SECRET, "no adapter for what is no URL; known: sqlite:///path/to/file.db, "),
        (f"postgresql://chat:{SECRET}@db", "name a database, as in postgresql://user@host/chat"),
        (f"postgresql://chat:{SECRET}@db/chat?pool_size=many", "Expected `int`"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused(tmp_path: Path, url: str, said: str) -> None:
    assert said in refused(tmp_path, url)


@pytest.mark.slow
def test_the_given_store_goes_over_the_files(tmp_path: Path) -> None:
    file, mine = tmp_path / "cluster.yaml", tmp_path / "mine.db"
    file.write_text(
        SPEC.format(replicas=1, heartbeat=10) + "  postgresql:\n    url: postgresql://db.invalid/chat\n"
    )
    up = Up(tmp_path / "data", file, "--store", f"sqlite:///{mine}")
    try:
        assert up.ready()["store"]["url"] == f"sqlite:///{mine}"
        file.write_text(file.read_text().replace("replicas: 1", "replicas: 2"))
        up.settled(2)
        assert mine.exists() and not (tmp_path / "data" / "chat.db").exists()
        assert up.stop() == 0
    finally:
        up.process.kill()
        up.process.wait()


@pytest.mark.slow
def test_messages_and_the_directory_may_be_in_two_stores(tmp_path: Path) -> None:
    messages, people = tmp_path / "messages.db", tmp_path / "people.db"
    file = tmp_path / "cluster.yaml"
    file.write_text(SPEC.format(replicas=1, heartbeat=10))
    up = Up(tmp_path / "data", file, "--store", f"sqlite:///{messages} sqlite:///{people}")
    try:
        up.ready()
        said = [CHATCTL, "send", "--as", "bob", "--data", tmp_path / "data", "alice", "hello"]
        subprocess.run(said, check=True, capture_output=True, timeout=60)
        assert up.stop() == 0
    finally:
        up.process.kill()
        up.process.wait()

    def rows(file: Path, table: str) -> int:
        with closing(sqlite3.connect(file)) as db:
            (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
            return int(count)

    assert (rows(messages, "events") > 1, rows(messages, "users")) == (True, 0)
    assert (rows(people, "events"), rows(people, "users")) == (0, 2)


SHOWS = '#!/bin/sh\necho "$CHATCTL_STORE|$CHATCTL_REDIS|$*"\n'


def made(tmp_path: Path, *variables: str, **environ: str) -> str:
    """What `make run` runs: with which store, which Redis, and what words."""
    chatctl = tmp_path / "bin" / "chatctl"
    chatctl.parent.mkdir(exist_ok=True)
    (chatctl.parent / "pip").touch()
    (tmp_path / ".installed-run").touch()
    chatctl.write_text(SHOWS)
    chatctl.chmod(0o755)
    command = ["make", "--silent", "-C", str(ROOT), "run", f"VENV={tmp_path}", *variables]
    # What the make that runs the tests was given is not for this one.
    others = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "ARGS"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**others, **environ})
    return ran.stdout.strip()


def test_make_hands_the_store_on_and_on_no_command_line(tmp_path: Path) -> None:
    given = made(tmp_path, "STORE=postgresql://db/chat", "REDIS=redis://db")
    assert given == "postgresql://db/chat|redis://db|up examples/laptop.yaml"
    assert made(tmp_path) == "||up examples/laptop.yaml"


def test_make_leaves_the_environment_s_store_and_goes_over_it_where_it_is_told_to(tmp_path: Path) -> None:
    environ = {"CHATCTL_STORE": "mongodb://a,b/chat", "CHATCTL_REDIS": "redis://mine"}
    assert made(tmp_path, **environ) == "mongodb://a,b/chat|redis://mine|up examples/laptop.yaml"
    told = made(tmp_path, "STORE=postgresql://db/chat", **environ)
    assert told == "postgresql://db/chat|redis://mine|up examples/laptop.yaml"


def test_make_changes_nothing_of_a_password(tmp_path: Path) -> None:
    url = "mongodb://chat:pa$HOME$$w(o)r'd@a,b/chat?x=1&y=2"
    assert made(tmp_path, f"STORE={url}", f"REDIS={url}") == f"{url}|{url}|up examples/laptop.yaml"
