"""A namespace for every test, under the strictest Pod Security, and gone afterwards."""

from __future__ import annotations

import itertools
import secrets

from cluster.kit.kubectl import Kubectl

ENFORCED = "pod-security.kubernetes.io/enforce"
READY_S = 60
GONE_S = 180

_run = secrets.token_hex(2)
_numbers = itertools.count(1)


class Namespaces:
    """Of one run of tests. Those of tests that are over go in the background, and all are gone at its end."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._kubectl = Kubectl("default")

    def make(self, security: str = "restricted") -> str:
        name = f"t-{_run}-{next(_numbers)}"
        self._kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {ENFORCED: security, "chatcluster.dev/test": _run}},
            }
        )
        self._made.append(name)
        # Without it no pod is let in. A controller that has just come back to its API server makes it late.
        account = ("serviceaccount/default", f"--namespace={name}")
        self._kubectl("wait", "--for=create", *account, f"--timeout={READY_S}s")
        return name

    def leave(self, *names: str) -> None:
        """They may take the rest of the run to go: pods have their grace periods."""
        self._kubectl("delete", "namespace", *names, "--wait=false", "--ignore-not-found")

    def end(self) -> None:
        """Wait until all are gone: what hangs here is something that the cluster could not remove."""
        if self._made:
            self.leave(*self._made)
            self._kubectl(
                "wait", "--for=delete", f"--timeout={GONE_S}s", *(f"namespace/{name}" for name in self._made),
                timeout_s=GONE_S + 10,
            )  # fmt: skip
