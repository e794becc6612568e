"""`make` on a machine whose Python cannot run this says so in a line, and makes nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A python3 that evaluates what it is asked as a system of another kind would.
FAKE = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "Python {version}"; exit; fi
if [ "$1" = -c ]; then exec {python} -c 'import sys; {lack}; exec(sys.argv[1])' "$2"; fi
echo "python3 was run with $*" >&2
exit 99
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments],
        env={**environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("target", ["run", "install", "dev", "test"])
@pytest.mark.parametrize(
    ("version", "lack", "told"),
    [
        (
            "3.10.14",
            "sys.version_info = (3, 10, 14)",
            "Python 3.10.14 is too old: install Python 3.11 or newer",
        ),
        ("3.12.3", 'sys.modules["ensurepip"] = None', "python3 lacks the venv module: install it"),
    ],
)
def test_a_python_that_cannot_run_this_is_told(
    folder: Path, target: str, version: str, lack: str, told: str
) -> None:
    fake = folder / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(FAKE.format(version=version, python=shlex.quote(sys.executable), lack=lack))
    fake.chmod(0o755)
    run = make(folder, target)
    assert run.returncode != 0
    first, *rest = run.stderr.splitlines()
    assert first.startswith(f"make: {told}")
    assert all("***" in line for line in rest), "what make itself says of a failure"
    assert not (folder / ".venv").exists()


def test_a_python_that_is_not_there_is_told(folder: Path) -> None:
    run = make(folder, "run", "PYTHON=python3.99")
    assert run.stderr.startswith("make: there is no python3.99: install Python 3.11 or newer\n")
