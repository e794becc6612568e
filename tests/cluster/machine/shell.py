"""Commands of the system, run to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.machine.layout import MachineError, entering

COMMAND_S = 300.0


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout_s: float = COMMAND_S,
) -> str:
    """Its output; raises `MachineError` with what it complained of when it fails."""
    done = _done(command, env, cwd, stdin, timeout_s)
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise MachineError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{said}")
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    return _done(command, None, None, None, COMMAND_S).returncode == 0


def inside(label: str, *command: str | Path) -> str:
    """Run in a network namespace."""
    return run(*entering(label), *command)


def _done(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: str | None,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=env,
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as absent:
        raise MachineError(f"there is no {command[0]} here") from absent
    except subprocess.TimeoutExpired as late:
        raise MachineError(f"{' '.join(map(str, command))}: no end after {timeout_s:.0f} s") from late
