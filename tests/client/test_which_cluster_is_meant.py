"""Commands go to the cluster that is meant, wherever it listens now, and never to whoever else is there."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.chatctl import Chatctl
from support.cluster import Cluster

from chatclient.cli.sessions import Session
from chatclient.control import same_place
from chatclient.files import read_json

SMALL = ("--users", "4", "--channels", "3", "--rate", "10", "--duration", "1")


def kept_url(chatctl: Chatctl, name: str) -> str:
    session = read_json(chatctl.data / "sessions" / f"{name}.json", Session)
    assert session is not None
    return session.url


def test_a_stopped_cluster_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    there, nowhere = Chatctl(tmp_path), Chatctl(tmp_path / "nowhere")
    done = there.run("login", "carol")
    assert done.returncode == 1 and f"no cluster is running on {tmp_path}" in done.stderr
    assert "--data DIR" in done.stderr and "--url URL" in done.stderr
    for words in (("signup", "carol"), ("listen", "--as", "alice")):
        done = nowhere.run(*words)
        assert done.returncode == 1 and f"there is no data directory {nowhere.data}" in done.stderr
    done = there.run("drill")
    assert done.returncode == 2 and "no cluster is running on" in done.stderr


@pytest.mark.slow
def test_sessions_and_drills_find_their_cluster(cluster: Cluster, tmp_path: Path) -> None:
    home, other = Chatctl(tmp_path / "home"), Chatctl(cluster.data)
    with home.up():
        before = home.status().url
        assert home.run("signup", "carol").returncode == 0
        assert home.run("signup", "dave", "--url", before.replace("127.0.0.1", "localhost")).returncode == 0
        assert kept_url(home, "carol") == kept_url(home, "dave") == ""
    port = urlsplit(before).port
    with socket.create_server(("127.0.0.1", port or 0)), home.up():  # a stranger is where it was
        now = home.status().url
        assert now != before
        for name in ("carol", "dave"):
            done = home.run("channels", "--as", name)
            assert done.returncode == 0, done.stderr
        assert other.run("signup", "erin", "--url", now).returncode == 0
        assert kept_url(other, "erin") == now
        assert other.run("channels", "--as", "erin").returncode == 0, (
            "a session is of the cluster that was given"
        )
        pods = other.status().ready("chat")
        done = other.run("drill", *SMALL, "--url", now, "--fault", "cut-connections+kill-pod")
        assert done.returncode == 2 and f"would be done to {cluster.url}" in done.stderr
        assert other.status().ready("chat") == pods
        done = other.run("drill", *SMALL, "--url", now, "--fault", "cut-connections", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["faults"] == {"cut-connections": 1}


@pytest.mark.parametrize(
    ("url", "other", "same"),
    [
        ("http://127.0.0.1:8080", "http://localhost:8080/", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("http://chat.example", "http://chat.example:80", True),
        ("https://chat.example", "http://chat.example", False),
        ("http://127.0.0.1:8080", "http://chat.example:8080", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:eighty", False),
    ],
)
def test_the_same_place_in_other_words(url: str, other: str, same: bool) -> None:
    assert same_place(url, other) is same
