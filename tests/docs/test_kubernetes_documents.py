"""What the documents of Kubernetes name exists: commands of the plugin, values of the chart, reasons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from chatclient.cli.kube import make_app
from chatoperator.reasons import Reason

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "kubernetes").glob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "chatcluster" / "values.yaml").read_text())


def value(path: str) -> object:
    found: Any = VALUES
    for key in path.split("."):
        found = found[key]
    return found


def test_every_command_of_the_plugin_exists() -> None:
    commands = {
        command.callback.__name__ for command in make_app("chat").registered_commands if command.callback
    }
    named = set(re.findall(r"kubectl\s+chat\s+([a-z]+)", TEXT))
    assert named
    assert named <= commands


def test_every_value_of_the_chart_exists() -> None:
    groups = "|".join(key for key, inner in VALUES.items() if isinstance(inner, dict))
    named = re.findall(rf"`((?:{groups})\.[a-zA-Z]+)(?:: [^`]*)?`", TEXT)
    assert named
    for path in named:
        assert value(path) is not None


def test_every_reason_exists() -> None:
    named = re.findall(r"\bsays ([A-Z][a-z]+[A-Z][A-Za-z]+)", TEXT)
    assert named
    assert set(named) <= {reason.value for reason in Reason}
