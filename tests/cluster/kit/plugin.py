"""`kubectl chat`, as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(sys.executable).parent


class Plugin:
    """In one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __call__(self, command: str, *arguments: str, code: int = 0, timeout_s: float = 60.0) -> str:
        """What it printed; of a command that is to fail, what it said against it."""
        path = f"{HERE}:{os.environ['PATH']}"  # where kubectl finds it
        done = subprocess.run(
            ["kubectl", "chat", command, *arguments, f"--namespace={self._namespace}"],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stderr if code else done.stdout

    def json(self, command: str, *arguments: str) -> Any:
        return json.loads(self(command, *arguments, "--json"))
