"""The command itself against a cluster whose pods do not move clients as promised, or keep slow ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cluster import default_spec, running_cluster

CHAT_POD = Path(__file__).parents[1] / "promises" / "broken" / "chat_pod.py"
SMALL = ("--users", "12", "--channels", "4", "--rate", "40", "--duration", "3")
WITHIN_S = 90


def drill(data: Path, *faults: str) -> dict[str, Any]:
    """The report of a drill that found promises broken."""
    options = [word for fault in faults for word in ("--fault", fault)]
    chatctl = Path(sys.executable).with_name("chatctl")
    done = subprocess.run(
        [chatctl, "drill", "--data", data, *SMALL, *options, "--json"],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert not report["kept"]
    assert {line.split(":")[0] for line in report["broken"]} == set(faults), report["broken"]
    return report


@pytest.mark.slow
def test_a_broken_build_ends_the_drill_with_exit_code_1(tmp_path: Path) -> None:
    breaks, data = tmp_path / "breaks", tmp_path / "data"
    breaks.write_text("closes_without_migrate keeps_slow_clients")
    with running_cluster(data, default_spec(), {"chat": CHAT_POD}, {"CHAT_TEST_BREAKS": str(breaks)}):
        report = drill(data, "drain", "slow-reader")
        assert report["untold"] > 0 and report["slow_kept"] > 0, report
        breaks.write_text("closes_right_after_migrate")
        report = drill(data, "drain")
        assert report["cut_off"] > 0 and report["untold"] == 0, report
