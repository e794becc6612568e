"""`chatctl backup` and `chatctl restore`: one whole file, over no other, and no old log beside what is put back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.chatctl import Chatctl

from chatoperator.datadir import DataDir


@pytest.fixture
def chatctl(tmp_path: Path) -> Chatctl:
    made = Chatctl(tmp_path / "data")
    done = made.here("schema", "apply", f"sqlite:///{made.data}/chat.db")
    assert done.returncode == 0, done.stderr
    return made


def name_somebody(path: Path, name: str) -> sqlite3.Connection:
    """Left open, so that the name is in the log beside the file and not in it."""
    db = sqlite3.connect(path)
    db.execute(
        "INSERT INTO users (user_id, username, username_key, display_name, created_at, password_hash)"
        " VALUES (?, ?, ?, '', 0, '')",
        (name, name, name),
    )
    db.commit()
    return db


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [name for (name,) in db.execute("SELECT user_id FROM users ORDER BY user_id")]


def test_what_was_committed_is_in_the_copy_and_comes_back(chatctl: Chatctl, tmp_path: Path) -> None:
    database, copy = chatctl.data / "chat.db", tmp_path / "copy.db"
    with closing(name_somebody(database, "before")):
        done = chatctl.here("backup", str(copy))
        assert done.returncode == 0 and "0 events" in done.stdout, done.stderr
    assert names(copy) == ["before"] and copy.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("copy")] == ["copy.db"]
    after = name_somebody(database, "after")
    # As a killed process leaves it: what was said last is in the log alone.
    for end in ("", "-wal"):
        (tmp_path / f"killed.db{end}").write_bytes(database.with_name(f"chat.db{end}").read_bytes())
    after.close()
    for end in ("", "-wal"):
        (tmp_path / f"killed.db{end}").replace(database.with_name(f"chat.db{end}"))

    done = chatctl.here("restore", str(copy))
    assert done.returncode == 0, done.stderr
    assert names(database) == ["before"]
    assert names(chatctl.data / "chat.db.replaced") == ["after", "before"]
    assert chatctl.here("schema", "check").returncode == 0
    assert copy.exists()


def test_a_copy_is_never_written_over_another_file(chatctl: Chatctl, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    refused = chatctl.here("backup", str(copy))
    assert refused.returncode == 2 and "not overwritten" in refused.stderr and copy.read_text() == "mine"


def test_what_is_no_store_of_ours_is_not_put_back(chatctl: Chatctl, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_bytes(b"this is not a database, it is a letter. " * 500)
    newer = tmp_path / "newer.db"
    assert chatctl.here("backup", str(newer)).returncode == 0
    with closing(sqlite3.connect(newer)) as db:
        db.execute("UPDATE schema_version SET version = 99")
        db.commit()
    for path, why in (
        (letter, "not a store of ours"),
        (newer, "version 99"),
        (tmp_path / "none", "No such file"),
    ):
        refused = chatctl.here("restore", str(path))
        assert refused.returncode == 2 and why in refused.stderr, refused.stderr
    assert names(chatctl.data / "chat.db") == []


def test_nothing_is_put_back_under_a_running_cluster(chatctl: Chatctl, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert chatctl.here("backup", str(copy)).returncode == 0
    running = DataDir(chatctl.data)
    running.create()
    running.lock()
    try:
        refused = chatctl.here("restore", str(copy))
        assert refused.returncode == 2 and "already running" in refused.stderr
    finally:
        running.unlock()


def test_other_stores_have_commands_of_their_own(chatctl: Chatctl, tmp_path: Path) -> None:
    refused = chatctl.here("backup", str(tmp_path / "copy.db"), "--store", "mongodb://ann:hunter2@db/chat")
    assert refused.returncode == 2 and "docs/backup.md" in refused.stderr and "hunter2" not in refused.stderr


def test_of_two_stores_each_is_copied_by_itself(chatctl: Chatctl, tmp_path: Path) -> None:
    first = f"sqlite:///{chatctl.data}/chat.db"
    refused = chatctl.here(
        "backup", str(tmp_path / "copy.db"), "--store", f"{first} sqlite:///{tmp_path}/people.db"
    )
    assert refused.returncode == 2 and "--store" in refused.stderr
    assert not (tmp_path / "copy.db").exists()
