"""The command itself against a cluster whose pods neither ask clients to move nor let slow ones go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.cluster import default_spec, running_cluster

CHAT_POD = Path(__file__).parents[1] / "promises" / "broken" / "chat_pod.py"
SMALL = ("--users", "12", "--channels", "4", "--rate", "40", "--duration", "3")
WITHIN_S = 90


def test_a_broken_build_ends_the_drill_with_exit_code_1(tmp_path: Path) -> None:
    breaks, data = tmp_path / "breaks", tmp_path / "data"
    breaks.write_text("closes_without_migrate keeps_slow_clients")
    environ = {"CHAT_TEST_BREAKS": str(breaks)}
    with running_cluster(data, default_spec(), {"chat": CHAT_POD}, environ):
        chatctl = Path(sys.executable).with_name("chatctl")
        done = subprocess.run(
            [
                chatctl,
                "drill",
                "--data",
                data,
                *SMALL,
                "--fault",
                "drain",
                "--fault",
                "slow-reader",
                "--json",
            ],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert not report["kept"]
    assert report["untold"] > 0 and report["slow_kept"] > 0, report
    assert {line.split(":")[0] for line in report["broken"]} == {"drain", "slow-reader"}, report["broken"]
