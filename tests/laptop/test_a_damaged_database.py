"""Nothing starts on a database that is damaged: a line says which file it is, and how to repair it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from laptoprun import Up
from support.api_pod import SECRETS, settings_of
from support.valkey import free_port

from chatkernel.storage.open import open_store


def damaged(path: Path) -> Path:
    async def make() -> None:
        store = await open_store(f"sqlite:///{path}")
        await store.ensure_schema()
        await store.aclose()

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as raw:
        # A page that is in use: what is written over a free one harms nobody, and nobody finds it.
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
        (page_bytes,) = raw.execute("PRAGMA page_size").fetchone()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[(page - 1) * page_bytes : page * page_bytes] = b"\xa5" * page_bytes
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("service", ["chatpod", "apipod", "worker"])
def test_no_service_starts_on_it(tmp_path: Path, service: str) -> None:
    path = damaged(tmp_path / "chat.db")
    secrets = tmp_path / "secrets.json"
    secrets.write_bytes(msgspec.json.encode(SECRETS))
    settings = settings_of(tmp_path, f"redis://127.0.0.1:{free_port()}", secret_file=str(secrets))
    config = tmp_path / "settings.json"
    config.write_bytes(msgspec.json.encode(settings))
    run = subprocess.run(
        [sys.executable, "-m", f"{service}.main"],
        env={**os.environ, "CHAT_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode not in (0, None)
    assert f"{path}: the database file is damaged" in said and ".recover" in said
    assert "Traceback" not in said and len(said.splitlines()) == 1, said


@pytest.mark.slow
def test_no_cluster_starts_on_it(tmp_path: Path, start: Callable[..., Up]) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    path = damaged(tmp_path / "data" / "chat.db")
    up = start()
    assert up.process.wait(30) == 1
    said = up.output()
    assert f"{path}: the database file is damaged" in said and ".recover" in said
    assert "Traceback" not in said
