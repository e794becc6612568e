"""The laptop cluster with its store on PostgreSQL: it keeps its promises while both of them lose what they can."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cluster import default_spec, running_cluster
from support.postgres import PASSWORD, fresh_database, postgres_server


@pytest.mark.stores
def test_promises_are_kept_while_the_database_and_a_pod_are_killed(tmp_path: Path) -> None:
    with postgres_server() as server:
        spec = default_spec(postgresql={"url": server.url(fresh_database(server))})
        with running_cluster(tmp_path / "data", spec) as cluster:
            command = [
                sys.executable,
                "-m",
                "chatclient.cli.main",
                "drill",
                "--data",
                str(cluster.data),
                "--quick",
            ]
            drill = subprocess.Popen(
                [*command, "--fault", "kill-pod", "--duration", "20"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert drill.stdout is not None
            said, killed = [], 0
            for line in drill.stdout:
                said.append(line)
                if "kill-pod: all back" in line:
                    server.kill()
                    time.sleep(2)
                    server.launch()
                    killed = len(said)
            assert killed and any("sent" in line for line in said[killed:])
            assert drill.wait() == 0, "".join(said)
            assert "All promises kept" in "".join(said)
            status = asyncio.run(cluster.order("status"))
    assert PASSWORD not in json.dumps(status)
    logs = "".join(path.read_text() for path in (tmp_path / "data" / "logs").iterdir())
    assert logs and PASSWORD not in logs
    assert status["store"]["url"].startswith("postgresql://127.0.0.1:")
