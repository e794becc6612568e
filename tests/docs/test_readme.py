"""What README.md shows is what happens: its Python example runs as printed, its drill's table is the real one."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
from support.cluster import eventually

from chatclient.drill.checker import Verdict
from chatclient.drill.report import FaultRecord, Measured, make_report, table_of

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
RUN_S = 30


def accounts(cluster):
    """The two that are made when a cluster is ready, with their passwords, once they are there: passwords are noted
    before they are used, and user ids when all is done."""

    async def look():
        file = cluster.data / "accounts.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        return known if known and all(one.get("user_id") for one in known.values()) else None

    return asyncio.run(eventually(look, 20))


def open_direct(http, known):
    """Alice opens her 1:1 with Bob, and says something in it."""
    body = {"username": "alice", "password": known["alice"]["password"]}
    token = http.post("/v1/sessions", json=body).raise_for_status().json()["access_token"]
    http.headers["authorization"] = f"Bearer {token}"
    bob = http.get("/v1/users", params={"username": "bob"}).raise_for_status().json()["user_id"]
    body = {"kind": "direct", "user_id": bob}
    return http.post("/v1/channels", json=body).raise_for_status().json()["channel_id"]


def test_the_python_client_runs_as_printed(cluster):
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    known = accounts(cluster)
    for printed, real in (
        ("http://127.0.0.1:8080", cluster.url),
        ("the password that make run printed", known["bob"]["password"]),
    ):
        assert program.count(printed) == 1
        program = program.replace(printed, real)
    with httpx.Client(base_url=cluster.url, trust_env=False, timeout=10) as http:
        channel_id = open_direct(http, known)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=RUN_S, check=False
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        history = {"type": "history", "id": "h", "channel_id": channel_id}
        frames = http.post("/v1/frames", json=history).raise_for_status().json()["frames"]
    event = frames[0]["items"][-1]["event"]
    assert event["text"] == "hello from Python"
    assert f"stored as {event['seq']}\n" in done.stdout


def test_the_drills_table_has_the_rows_that_the_command_prints():
    shown = re.findall(r"^│ (.+?)\s+│.*│$", README, flags=re.MULTILINE)
    report = make_report(Verdict(), Measured(fault_log=[FaultRecord("kill-pod", 1.0)]))
    assert shown == [str(cell).rstrip() for cell in table_of(report).columns[0].cells]
