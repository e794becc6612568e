"""What all services send to Redis, heard by MONITOR: nothing that reads without a bound, and no script that grows."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.chatctl import Chatctl
from support.cluster import default_spec, running_cluster
from support.redis_servers import one_server
from support.redis_usage import use_everything
from support.valkey import redis_client

from chatkernel.keys import Keys
from chatkernel.presence import SCRIPT_DEVICES_MAX, PresenceStore
from chatkernel.settings import PresenceSettings

LOAD = ("--users", "12", "--channels", "5", "--rate", "40", "--duration", "4")
LINE = re.compile(rb"^\+?[\d.]+ \[\d+ (\S+)\] (.*)$")
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')

ONE_PIECE = {"hgetall", "hkeys", "hvals", "smembers"}
"""They read the whole of a key, so how large it gets must not depend on people:"""
SMALL_KEYS = re.compile(
    r"{registry}$"  # pods
    r"|route:[cuw]:"  # pods that have somebody there
    r"|{presence:\d+}:user:"  # devices of one person
    r"|intents$"  # pods
)
RANGES = {"zrange", "xrange", "xrevrange", "xread", "sscan", "zscan"}
"""They must say how much they take."""
OTHERS = """
del unlink exists expire get hdel hexists hget hlen hmget hset pexpire set sadd srem zadd zcount zmscore zrem zscore
xadd xtrim evalsha eval time ping hello client info select role monitor
"""
"""They touch one place, or as many as they name."""
PER_SCRIPT = 24
"""Commands inside a script, at most: of the devices of one person, so many may be forgotten."""


class Said(NamedTuple):
    by_script: bool
    words: list[str]


class Monitor:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"MONITOR\r\n")
        self._lines: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                self._lines.append(line)

    def close(self) -> list[Said]:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        found = (LINE.match(line.rstrip()) for line in self._lines)
        return [
            Said(match[1] == b"lua", [word.decode(errors="replace") for word in WORD.findall(match[2])])
            for match in found
            if match
        ]


@contextmanager
def heard(port: int) -> Iterator[list[Said]]:
    """Filled at the end."""
    said: list[Said] = []
    monitor = Monitor(port)
    yield said
    said += monitor.close()


def unbounded(words: list[str], base: str) -> bool:
    command, rest = words[0].lower(), words[1:]
    if command in ONE_PIECE:
        return not SMALL_KEYS.match(rest[0].removeprefix(base))
    if command in RANGES:
        upper = {word.upper() for word in rest}
        # From an entry to the same entry is one entry.
        return not ({"LIMIT", "COUNT"} & upper or (command == "xrange" and rest[1] == rest[2]))
    return command not in OTHERS.split()


@pytest.mark.parametrize(
    "command",
    ["KEYS *", "FLUSHALL", "SMEMBERS p:everybody", "HGETALL p:limit:x", "ZRANGE p:k 0 -1", "XRANGE p:s - +"],
)
def test_what_grows_is_caught(command: str) -> None:
    assert unbounded(command.split(), "p:")


@pytest.mark.slow
def test_nothing_is_read_without_a_bound_by_a_cluster_under_load_and_faults(tmp_path: Path) -> None:
    with one_server() as server, heard(server.port) as said:
        spec = {**default_spec(), "redis": {"url": f"redis://127.0.0.1:{server.port}/0", "keyPrefix": "p"}}
        with running_cluster(tmp_path / "data", spec) as cluster:
            faults = ("--fault", "kill-pod", "--fault", "drain", "--fault", "kill-worker")
            done = Chatctl(cluster.data).run("drill", *LOAD, *faults, timeout_s=120)
            assert done.returncode == 0, done.stdout + done.stderr
    base = Keys("p", "laptop").base
    assert len(said) > 1_000
    assert {words[0].lower() for _, words in said} >= {"xadd", "xread", "smembers", "hgetall", "zrange"}
    assert [words for _, words in said if unbounded(words, base)] == []


@pytest.mark.slow
async def test_a_script_touches_so_many_people_at_most(keys: Keys) -> None:
    with one_server() as server, heard(server.port) as said:
        async with redis_client(f"redis://127.0.0.1:{server.port}/0") as redis:
            await use_everything(redis, keys)
            presence = PresenceStore(redis, keys, PresenceSettings(offline_after_s=0.05))
            # All in one shard of presence, as happens to no real people.
            users = [u for n in range(64 * 1_500) if keys.presence_shard(u := f"u{n}") == 0]
            assert len(users) > 4 * SCRIPT_DEVICES_MAX
            await presence.beat([(user, "d") for user in users])
            await presence.states(users)
            await asyncio.sleep(0.06)
            assert len(await presence.sweep(64)) == 1
    assert [words for _, words in said if unbounded(words, keys.base)] == []
    inside: list[int] = []
    for by_script, words in said:
        if by_script:
            inside[-1] += 1
        elif words[0].lower().startswith("eval"):
            inside.append(0)
    assert 1 < max(inside) <= PER_SCRIPT
