"""What a person has of a cluster in a terminal: a live table, commands that work as printed, and at the next start
everything that was said."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laptoprun import CHATCTL, LIKE_MAKE, READY_TIMEOUT_S, Up, Window, processes_of

from chatclient.client import ChatClient
from chatclient.http import Credentials
from chatoperator.accounts import read_accounts
from chatoperator.control import Request, ask
from chatoperator.datadir import DataDir

DRILL_TIMEOUT_S = 120


async def test_the_table_follows_what_happens(open_window: Callable[[str], Window]) -> None:
    window = open_window(LIKE_MAKE)

    async def shows(pattern: bytes) -> re.Match[bytes]:
        return await asyncio.to_thread(window.read_until, pattern)

    url = (await shows(rb"is ready at (http://[0-9.:]+)"))[1].decode()
    await shows(rb"pod +phase +connections +messages/s +restarts +port +pid +revision")
    await shows(rb"test +http://[0-9.:]+ +Running +online 0 +redis up")
    await shows(rb"chat-1 +ready +0 +0\.0 +0 +\d+ +\d+ +[0-9a-f]{8}\b")
    password = read_accounts(window.data / "accounts.json")["alice"].password
    async with ChatClient(url, credentials=Credentials("alice", password)) as alice:
        await alice.connect(10)
        await shows(rb"online 1 +redis up")
        await shows(rb"chat-1 +ready +1 ")
        (channel_id,) = alice.cursors
        talking = asyncio.create_task(talk(alice, channel_id))
        await shows(rb"chat-1 +ready +1 +[1-9]\d*\.\d")
        talking.cancel()
    assert (await ask(DataDir(window.data).control_socket(), Request("kill", pod="chat-1")))["ok"]
    await shows(rb"chat-2 +ready +0 +0\.0 +1 +\d+ +\d+ +[0-9a-f]{8}\b")


async def talk(client: ChatClient, channel_id: str) -> None:
    while True:
        await client.send(channel_id, "and another thing")


@pytest.mark.slow
def test_the_next_start_finds_all_messages(start: Callable[..., Up]) -> None:
    up = start(1)
    up.ready()
    chatctl(up.data, "send", "--as", "bob", "alice", "the one with the blue door")
    assert up.stop() == 0
    start(1).ready()
    *_, last = chatctl(up.data, "history", "bob", "--as", "alice", "--json").splitlines()
    assert json.loads(last)["event"]["text"] == "the one with the blue door"


def chatctl(data: Path, *words: str) -> str:
    done = subprocess.run(
        [CHATCTL, *words, "--data", str(data)], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[tuple[list[str], Path]]:
    """The commands that a cluster printed, and the folder that it was started in: its data's name has a space."""
    up = subprocess.Popen(
        [CHATCTL, "up", "--data", "my data", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "CHATCTL_DATA"},
    )
    assert up.stdout is not None
    try:
        for line in up.stdout:
            if line.startswith("Try, in other terminals"):
                break
        yield [up.stdout.readline().strip() for _ in range(3)], tmp_path
    finally:
        up.terminate()
        up.wait(15)
        up.stdout.close()
    assert processes_of(tmp_path / "my data") == []


@pytest.mark.slow
def test_the_three_printed_commands_work_as_they_are_printed(printed: tuple[list[str], Path]) -> None:
    (listen, send, drill), folder = printed
    listening = subprocess.Popen(listen, shell=True, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert listening.stdout is not None
    try:
        assert "connected to chat-" in listening.stdout.readline()
        sent = subprocess.run(send, shell=True, cwd=folder, capture_output=True, text=True, timeout=30)
        assert sent.returncode == 0, sent.stderr
        assert listening.stdout.readline().rstrip().endswith("bob: hello")
    finally:
        listening.terminate()
        listening.wait(READY_TIMEOUT_S)
        listening.stdout.close()
    drilled = subprocess.run(
        drill, shell=True, cwd=folder, capture_output=True, text=True, timeout=DRILL_TIMEOUT_S
    )
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
