"""People's commands and a short drill on a real cluster: processes, sockets, Valkey, SQLite."""

from __future__ import annotations

import json
import os
import pty
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator

import pytest
from support.chatctl import PASSWORD, Chatctl


@pytest.fixture(scope="module")
def chatctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chatctl]:
    """A cluster of its own, on a free port."""
    chatctl = Chatctl(tmp_path_factory.mktemp("cluster") / "data")
    with chatctl.up():
        yield chatctl


def test_two_people_talk_and_read_back(chatctl: Chatctl) -> None:
    for name in ("carol", "dave"):
        done = chatctl.run("signup", name)
        assert done.returncode == 0 and done.stdout.startswith(f"{name} is signed up"), done.stderr
        session = chatctl.data / "sessions" / f"{name}.json"
        assert session.stat().st_mode & 0o777 == 0o600
        assert PASSWORD not in session.read_text()
    ear = chatctl.start("listen", "--as", "dave")
    try:
        assert ear.stdout is not None
        assert ear.stdout.readline().startswith("(connected to chat-")
        assert chatctl.json("send", "--as", "carol", "dave", "hello dave")[0]["seq"] == 2
        lines = [ear.stdout.readline(), ear.stdout.readline()]
        assert lines[0].endswith("carol opened this channel with dave\n")
        assert lines[1].endswith("  carol: hello dave\n")
    finally:
        ear.terminate()
        _, err = ear.communicate(timeout=10)
    assert "Traceback" not in err
    items = chatctl.json("history", "--as", "dave", "carol")
    assert [item["event"]["kind"] for item in items] == ["created", "message"]  # type: ignore[index]
    (line,) = chatctl.json("channels", "--as", "dave")
    assert (line["kind"], line["member_count"]) == ("direct", 2)


def read_until(fd: int, done: Callable[[str], bool], chunk: int = 512) -> str:
    """What a terminal shows, read a little at a time."""
    seen = b""
    deadline = time.monotonic() + 60
    while not done(seen.decode(errors="replace")):
        ready, _, _ = select.select([fd], [], [], deadline - time.monotonic())
        assert ready, seen[-500:]
        seen += os.read(fd, chunk)
    return seen.decode()


@pytest.mark.slow
def test_a_slow_terminal_gets_every_message_whole(chatctl: Chatctl) -> None:
    for name in ("gina", "hugo"):
        assert chatctl.run("signup", name).returncode == 0
    texts = [letter * 15_000 for letter in "abcde"]
    screen, terminal = pty.openpty()
    tty.setraw(terminal, termios.TCSANOW)  # no echo and no line ends of its own
    ear = chatctl.start("listen", "--as", "hugo", on=terminal)
    try:
        read_until(screen, lambda seen: "(connected to" in seen)
        for text in texts:
            chatctl.json("send", "--as", "gina", "hugo", text)
        shown = read_until(screen, lambda seen: seen.count("gina: ") == 5 and seen.endswith("e\n"))
        assert [line.partition("gina: ")[2] for line in shown.splitlines() if "gina: " in line] == texts
        assert os.get_blocking(terminal)
        os.write(screen, b"half a ")
        os.write(screen, b"line\n")
        read_until(screen, lambda seen: "hugo: half a line" in seen)
    finally:
        ear.terminate()
        assert ear.wait(timeout=10) == 130
        os.close(screen)
        os.close(terminal)


def test_a_typed_line_stands_once_on_its_writers_terminal(chatctl: Chatctl) -> None:
    for name in ("ivan", "judy"):
        assert chatctl.run("signup", name).returncode == 0
    screen, terminal = pty.openpty()
    ear = chatctl.start("listen", "--as", "ivan", "--to", "judy", on=terminal)
    try:
        read_until(screen, lambda seen: "(connected to" in seen)
        os.write(screen, b"typed by ivan\n")
        read_until(screen, lambda seen: "typed by ivan" in seen)

        def stored() -> bool:
            items = chatctl.json("history", "--as", "judy", "ivan")
            return any(item["event"].get("text") == "typed by ivan" for item in items)  # type: ignore[attr-defined]

        while not stored():
            pass
        chatctl.json("send", "--as", "ivan", "judy", "from another device")
        shown = read_until(screen, lambda seen: "another device" in seen)
        assert "typed by ivan" not in shown
        assert "  ivan: from another device" in shown
    finally:
        ear.terminate()
        assert ear.wait(timeout=10) == 130
        os.close(screen)
        os.close(terminal)


@pytest.mark.slow
def test_logging_out_and_in_again(chatctl: Chatctl) -> None:
    assert chatctl.run("signup", "erin").returncode == 0
    assert chatctl.run("logout", "erin").returncode == 0
    assert not (chatctl.data / "sessions" / "erin.json").exists()
    assert "nobody here is called erin" in chatctl.run("channels", "--as", "erin").stderr
    assert chatctl.run("login", "erin").returncode == 0
    assert chatctl.run("channels", "--as", "erin").returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("send", "--as", "alice", "nobody-of-that-name", "hi"), "there is nobody"),
        (("send", "--as", "mallory", "alice", "hi"), "nobody here is called mallory"),
        (("login", "alice", "--password", "wrong password"), "wrong"),
        (("signup", "a b"), ""),
        (("signup", "../../etc"), "is not a user name"),
        (("history", "--as", "alice", "bob", "--url", "http://127.0.0.1:9"), "nothing answers"),
        (("history", "--as", "alice", "bob", "--url", "not a url"), ""),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_1(
    chatctl: Chatctl, words: tuple[str, ...], says: str
) -> None:
    done = chatctl.run(*words)
    assert done.returncode == 1, done
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fault", "meteor"), "no fault is called meteor"),
        (("--data", "/nonexistent", "--fault", "kill-pod", "--url", "http://127.0.0.1:9"), "control socket"),
        (("--fault", "kill-pod", "--url", "http://127.0.0.1:9"), "name the data directory of that cluster"),
        (("--fault", "slow-reader", "--url", "http://127.0.0.1:9"), "nothing answers"),
        (("--data", "/nonexistent"), "there is no data directory /nonexistent"),
    ],
)
def test_a_drill_that_cannot_be_run_is_one_line_and_exit_code_2(
    chatctl: Chatctl, words: tuple[str, ...], says: str
) -> None:
    done = chatctl.run("drill", *words)
    assert done.returncode == 2, done
    assert says in done.stderr.splitlines()[-1]
    assert done.stdout == ""


@pytest.mark.slow
def test_a_short_drill_with_a_killed_pod_keeps_all_promises(chatctl: Chatctl) -> None:
    words = ["drill", "--users", "12", "--channels", "5", "--rate", "40", "--duration", "6", "--json"]
    done = chatctl.run(*words, "--fault", "kill-pod+flush-redis", "--fault", "cut-connections", timeout_s=120)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["sent"] == report["acked"] > 100
    broken = ("lost", "duplicated", "reordered", "behind_cursor", "unauthorised")
    assert [report[key] for key in broken] == [0] * 5
    assert report["faults"] == {"kill-pod+flush-redis": 1, "cut-connections": 1}
    assert report["seen_live"] > 0 and report["seen_by_sync"] > 0
    assert (chatctl.data / "drill.json").stat().st_mode & 0o777 == 0o600
