"""`--fault exec:PROGRAM`: called to strike and to heal, whatever happens in between."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from support.chatctl import Chatctl
from support.cluster import Cluster, eventually

from chatclient.drill.faults import expand, label_of, needs_control
from chatclient.drill.programs import program_of

SMALL = ("--users", "6", "--channels", "3", "--rate", "10", "--duration", "1")
HEALED_WITHIN_S = 15
BOOK = """\
#!/bin/sh
echo "$1 $CHATCTL_FAULT $CHATCTL_HOLD_S $CHATCTL_URL $CHATCTL_DATA" >>"$(dirname "$0")/book"
"""


class Program:
    """A program that keeps a book of its calls, and then does as it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "outage.sh"
        self.does("true")

    def does(self, script: str) -> None:
        self.path.write_text(BOOK + script + "\n")
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        book = self._folder / "book"
        return [line.split() for line in book.read_text().splitlines()] if book.exists() else []

    @property
    def done(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


async def test_it_strikes_and_heals_each_time_and_knows_the_cluster(
    cluster: Cluster, program: Program
) -> None:
    program.does('[ "$1" = heal ] || echo "put out the light"; sleep 20 &')
    fault = f"exec:dark={program.path}"
    done = Chatctl(cluster.data).run(
        "drill", *SMALL, "--fault", fault, "--times", "2", "--hold", "0.5", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kept"] and report["faults"] == {"exec:dark": 2}
    assert report["fault_log"][0]["notes"] == ["put out the light"]
    for record in report["fault_log"]:
        assert record["took_s"] >= 0.5
        assert record["lost_connections"] == 0
        assert 0 < record["slowest_ack_s"] < 5
        assert 0 <= record["level_after_s"] < 5
    assert program.done == ["strike", "heal"] * 2
    assert program.calls[0][1:] == ["dark", "0.5", cluster.url, str(cluster.data)]


LOCKED_AFTER_S = 2.5
LOCK = f"""
import pathlib, sqlite3, sys, time
folder, store = pathlib.Path(sys.argv[1]), sqlite3.connect(sys.argv[2], isolation_level=None, timeout=20)
store.execute("BEGIN IMMEDIATE")
(folder / "locked").touch()
while not (folder / "healed").exists():
    time.sleep(0.02)
time.sleep({LOCKED_AFTER_S})
"""


@pytest.mark.slow
async def test_everybody_is_level_counted_from_the_end_of_the_fault(
    cluster: Cluster, program: Program, tmp_path: Path
) -> None:
    """What was sent under it is acked only some seconds after it."""
    (tmp_path / "lock.py").write_text(LOCK)
    program.does(
        f"""
        cd {tmp_path}
        [ "$1" = strike ] || exec touch healed
        {sys.executable} lock.py . {cluster.data}/chat.db >said 2>&1 &
        while [ ! -e locked ]; do sleep 0.02; done
        """
    )
    fault = f"exec:locked={program.path}"
    done = Chatctl(cluster.data).run("drill", *SMALL, "--fault", fault, "--hold", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = json.loads(done.stdout)["fault_log"]
    assert record["level_after_s"] >= LOCKED_AFTER_S - 0.5


@pytest.mark.parametrize("fails", ["strike", "heal"])
async def test_one_that_fails_ends_the_drill_and_is_healed(
    cluster: Cluster, program: Program, fails: str
) -> None:
    program.does(f'[ "$1" = {fails} ] || exit 0; echo "no such server"; exit 7')
    done = Chatctl(cluster.data).run("drill", *SMALL, "--fault", f"exec:{program.path}", "--hold", "0")
    assert done.returncode == 2
    assert f"exec:outage: `{fails}` ended with exit code 7: no such server" in done.stderr
    assert ("what it broke may still be broken" in done.stderr) is (fails == "heal")
    assert "Traceback" not in done.stderr
    assert program.done == ["strike", "heal"]


@pytest.mark.parametrize("during", ["strike", "hold"])
async def test_an_interrupted_drill_is_healed(cluster: Cluster, program: Program, during: str) -> None:
    program.does('[ "$1" = heal ] || sleep 300' if during == "strike" else "true")
    drill = Chatctl(cluster.data).start("drill", *SMALL, "--fault", f"exec:{program.path}", "--hold", "300")

    async def struck() -> bool:
        assert drill.poll() is None, drill.communicate()
        return bool(program.calls)

    try:
        await eventually(struck, 60)
        drill.send_signal(signal.SIGINT)
        _, err = drill.communicate(timeout=HEALED_WITHIN_S)
    finally:
        drill.kill()
    assert drill.returncode == 130, err
    assert program.done == ["strike", "heal"]


def test_a_program_that_is_not_there_is_said_before_anything_begins(tmp_path: Path) -> None:
    path = tmp_path / "gone.sh"
    done = Chatctl(tmp_path).run("drill", "--url", "http://127.0.0.1:9", "--fault", f"exec:{path}")
    assert done.returncode == 2
    assert f"exec:{path}: {path} is not an executable file" in done.stderr


def test_it_is_called_by_its_name_and_may_be_one_of_several(program: Program) -> None:
    named = f"drain+exec:dark={program.path}"
    assert expand([named]) == [named]
    assert label_of(named) == "drain+exec:dark"
    assert label_of(f"exec:{program.path}") == "exec:outage"
    assert needs_control(named) and not needs_control(f"exec:{program.path}+slow-reader")
    assert program_of("drain") is None
    with pytest.raises(ValueError, match="nothing is not an executable file"):
        expand(["exec:"])


async def test_connections_that_are_lost_under_a_fault_are_counted(cluster: Cluster) -> None:
    done = Chatctl(cluster.data).run("drill", *SMALL, "--fault", "cut-connections", "--json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["fault_log"]
    assert record["notes"] == [f"cut {record['lost_connections']}"] != ["cut 0"]
