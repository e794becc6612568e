"""However a laptop cluster ends, no process is left, and the next start goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from laptoprun import Up, processes_of, until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_everything_within_seconds(start: Callable[..., Up], number: signal.Signals) -> None:
    up = start()
    up.ready()
    assert len(processes_of(up.data)) >= 5
    assert up.stop(number, timeout_s=8) == 0
    assert processes_of(up.data) == []
    assert not (up.data / "control.sock").exists()


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_start_goes_on(
    start: Callable[..., Up],
) -> None:
    up = start()
    up.ready()
    frozen = up.pods()[0]["name"]
    assert up.ask(do="freeze", pod=frozen)["ok"]
    secrets = (up.data / "secrets.json").read_bytes()
    accounts = (up.data / "accounts.json").read_bytes()
    up.stop(signal.SIGKILL)
    until(lambda: not processes_of(up.data), 10, "nothing is left, not even a stopped process")

    again = start()
    status = again.ready()
    assert (up.data / "secrets.json").read_bytes() == secrets
    assert (up.data / "accounts.json").read_bytes() == accounts
    assert frozen not in [pod["name"] for pod in status["pods"]], "names are never used twice"
    assert again.stop() == 0


def test_a_second_start_on_the_same_directory_says_so(start: Callable[..., Up]) -> None:
    up = start()
    url = up.ready()["url"]
    second = subprocess.run(
        [sys.executable, "-m", "chatclient.cli.main", "up", str(up.file), "--data", str(up.data), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=20,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"a cluster is already running on {up.data} (process {up.process.pid}, {url})" in second.stderr
    assert up.ask(do="status")["ok"], "the first one has not noticed"
    check_privacy(up.data)


def check_privacy(data: Path) -> None:
    """What is private is readable by the owner alone, and no log holds a password."""
    for name in ("secrets.json", "accounts.json", "control.sock", "run/redis.conf"):
        assert (data / name).stat().st_mode & 0o077 == 0, name
    assert data.stat().st_mode & 0o077 == 0
    passwords = [account["password"] for account in json.loads((data / "accounts.json").read_text()).values()]
    for file in (data / "logs").glob("*.log"):
        assert not any(password in file.read_text() for password in passwords), file.name


def run_up(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatclient.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_what_cannot_be_started_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: x\n")
    bad = run_up(tmp_path, "up", "bad.yaml")
    assert bad.returncode == 1
    assert "bad.yaml:1: apiVersion: expected chatcluster.dev/v1alpha1" in bad.stderr
    assert not (tmp_path / ".chatcluster").exists()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = run_up(tmp_path, "up", "--port", str(taken.getsockname()[1]))
    assert busy.returncode == 1
    assert "choose another with --port N" in busy.stderr

    nowhere = run_up(tmp_path, "up", "--port", "0", "--redis", "redis://127.0.0.1:1/0")
    assert nowhere.returncode == 1
    assert "Redis at 127.0.0.1:1 cannot be used" in nowhere.stderr
    for url, told in (
        (
            "redis+cluster://u:hunter2@127.0.0.1:1,127.0.0.1:2",
            "Redis at 127.0.0.1:1,127.0.0.1:2 cannot be used",
        ),
        ("redis+sentinel://u:hunter2@127.0.0.1:1", "the URL of --redis must name what the Sentinels watch"),
    ):
        nowhere = run_up(tmp_path, "up", "--port", "0", "--redis", url)
        assert nowhere.returncode == 1
        assert told in nowhere.stderr
        assert "hunter2" not in nowhere.stderr + nowhere.stdout

    nonsense = run_up(tmp_path, "up", "--port", "0", "--redis", "localhost:6379")
    assert nonsense.returncode == 1
    assert nonsense.stderr.startswith("the URL of --redis must start with redis://, ")
    assert nonsense.stderr.count("\n") == 1

    nobody = run_up(tmp_path, "status")
    assert nobody.returncode == 1
    assert "no cluster is running" in nobody.stderr
    assert processes_of(tmp_path / ".chatcluster") == []
