"""kubectl and helm, as a person uses them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

COMMAND_S = 120.0

Manifest = Mapping[str, Any]


class Failed(AssertionError):
    """A command that ended with an exit code other than 0; the message is what it said."""

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{said}")
        self.said = said


class Kubectl:
    """In one namespace, unless a command says otherwise (`-n`, `-A`)."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = COMMAND_S) -> str:
        """What it printed; raises `Failed`."""
        return run("kubectl", f"--namespace={self.namespace}", *arguments, stdin=stdin, timeout_s=timeout_s)

    def get(self, *arguments: str) -> Any:
        """An object, or a list as `{"items": [...]}`."""
        return json.loads(self("get", *arguments, "--output=json"))

    def apply(self, *manifests: Manifest) -> None:
        """Server-side, as its own field manager."""
        self("apply", "--server-side", "--filename=-", stdin=_together(manifests))

    def refused(self, *manifests: Manifest) -> str:
        """What the API server says against them; fails when it takes them."""
        try:
            self.apply(*manifests)
        except Failed as refusal:
            return refusal.said
        raise AssertionError("the API server took what it should have refused")

    def delete(self, *manifests: Manifest) -> None:
        self("delete", "--ignore-not-found", "--filename=-", stdin=_together(manifests))


class Helm:
    """In one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __call__(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        return run("helm", f"--namespace={self._namespace}", *arguments, timeout_s=timeout_s)


def run(*command: str, stdin: str | None = None, timeout_s: float = COMMAND_S) -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode != 0:
        raise Failed(command, done.returncode, (done.stderr + done.stdout).strip())
    return done.stdout


def _together(manifests: Sequence[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
