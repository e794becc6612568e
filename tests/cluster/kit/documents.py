"""What the documents tell a person to type, and somebody who types it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from cluster.kit.chat import REPOSITORY
from cluster.kit.kubectl import run

OPERATIONS = REPOSITORY / "docs" / "kubernetes" / "operations.md"
BACKUP = REPOSITORY / "docs" / "backup.md"
TYPED_S = 300.0


class Section:
    """One of a document, by its heading."""

    def __init__(self, document: Path, heading: str) -> None:
        text = _by_heading(document.read_text(encoding="utf-8"))[heading]
        blocks = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
        self.program = "".join(body for kind, body in blocks if kind == "sh")
        """What its commands need before them."""
        typed = (re.findall(r"^\$ (.+)$", body, re.MULTILINE) for kind, body in blocks if kind == "console")
        self.commands: list[str] = [command for each in typed for command in each]


def _by_heading(text: str) -> dict[str, str]:
    """A program's comments are no headings."""
    found, heading, is_code = {"": ""}, "", False
    for line in text.splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if line.startswith("#") and not is_code:
            heading = line.lstrip("#").strip()
            found[heading] = ""
        found[heading] += line
    return found


class Shell:
    """A person's, whose kubeconfig names one namespace; what they write is in a folder of theirs."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self._folder = folder
        told = json.loads(run("kubectl", "config", "view", "--raw", "--output=json"))
        for context in told["contexts"]:
            context["context"]["namespace"] = namespace
        (folder / "kubeconfig").write_text(json.dumps(told))

    def __call__(self, script: str) -> str:
        """What it printed; raises `Failed`."""
        environment = [f"KUBECONFIG={self._folder / 'kubeconfig'}", f"PATH={os.environ['PATH']}"]
        begin = f"set -euo pipefail; cd {self._folder}\n"
        return run("env", *environment, "bash", "-c", begin + script, timeout_s=TYPED_S)
