"""The job that makes a store's tables, told where that is by a mounted file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.postgres import PASSWORD, postgres_server
from support.valkey import free_port

pytestmark = pytest.mark.slow

REFUSED, DENIED, AWAY = 78, 77, 1


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    return subprocess.run(
        [sys.executable, "-m", "chatoperator.schemajob"],
        env={**environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_takes_the_url_from_the_file(tmp_path: Path) -> None:
    database, file = tmp_path / "chat.db", tmp_path / "url"
    file.write_text(f"sqlite:///{database}\n")
    done = run(CHAT_STORE_URL_FILE=str(file), CHAT_STORE_URL="sqlite:////nowhere/else.db")
    assert (done.returncode, done.stderr) == (0, "")
    with sqlite3.connect(database) as made:
        assert made.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_what_is_missing_may_come_and_what_is_wrong_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "url"
    done = run(CHAT_STORE_URL_FILE=str(file))
    assert (done.returncode, done.stderr) == (1, f"{file}: No such file or directory\n")
    file.write_text(" \n")
    done = run(CHAT_STORE_URL_FILE=str(file))
    assert done.returncode == 1 and "should hold a URL" in done.stderr
    done = run()
    assert done.returncode == 1 and "says where the store is" in done.stderr
    file.write_text("oracle://secret@host/chat")
    done = run(CHAT_STORE_URL_FILE=str(file))
    assert done.returncode == REFUSED and "no adapter for 'oracle'" in done.stderr
    assert "secret" not in done.stderr


def test_a_ca_is_for_who_is_reached_by_tls(tmp_path: Path) -> None:
    done = run(CHAT_STORE_URL=f"sqlite:///{tmp_path}/chat.db", CHAT_STORE_URL_CA_FILE="/trust/store.crt")
    assert done.returncode == 1 and "not reached by TLS" in done.stderr


def test_a_store_that_lets_nobody_in_is_told_from_one_that_is_not_there() -> None:
    with postgres_server() as server:
        done = run(CHAT_STORE_URL=server.url().replace(PASSWORD, "wrong"))
        assert (done.returncode, done.stderr) == (DENIED, "The database refuses our credentials\n")
        done = run(CHAT_STORE_URL=server.url("nowhere"))
        assert (done.returncode, done.stderr) == (DENIED, "There is no such database\n")
    done = run(CHAT_STORE_URL=f"postgresql://chat@127.0.0.1:{free_port()}/chat")
    assert done.returncode == AWAY
