"""What runs in a node, as its containerd knows it: images, containers and their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.machine.archive import Image
from cluster.machine.layout import MachineError
from cluster.machine.shell import run, succeeds

NAMESPACE = "k8s.io"
"""containerd's, where kubelets look."""
POD_NAMESPACE, POD_NAME = "io.kubernetes.pod.namespace", "io.kubernetes.pod.name"
CONTAINER_NAME, KIND = "io.kubernetes.container.name", "io.cri-containerd.kind"


@dataclass(frozen=True)
class Process:
    """The first process of a container. `pid` is this machine's."""

    pod: str
    container: str
    pid: int

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


class Containerd:
    def __init__(self, socket: Path) -> None:
        self._ctr = ["ctr", "--address", str(socket), "--namespace", NAMESPACE]
        self.socket = socket

    def answers(self) -> bool:
        return succeeds(*self._ctr, "version")

    def images(self) -> dict[str, str]:
        """Digests of what is loaded, by name."""
        lines = run(*self._ctr, "images", "list").splitlines()[1:]
        return {words[0]: words[2] for words in (line.split() for line in lines) if len(words) > 2}

    def load(self, image: Image) -> bool:
        """Have the image by this name; only layers that are not here yet travel. False: it was here already."""
        if self.images().get(image.name) == image.digest:
            return False
        here = run(*self._ctr, "content", "list", "--quiet").split()
        command = [*self._ctr, "images", "import", "-"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as reader:
            assert reader.stdin is not None
            assert reader.stderr is not None
            with suppress(BrokenPipeError), reader.stdin as out:
                image.write(out, without=here)
            complaint = reader.stderr.read().decode(errors="replace")
        if reader.returncode != 0:
            raise MachineError(f"{image.name} could not be loaded into {self.socket}: {complaint}")
        return True

    def tag(self, image: str, name: str) -> None:
        """Another name for an image that is loaded."""
        run(*self._ctr, "images", "tag", "--force", image, name)

    def processes(self, namespace: str, pod: str) -> list[Process]:
        """Of a pod's running containers, without the one that holds its namespaces."""
        pids = self._running()
        found = []
        for ident in self._containers(f'labels."{POD_NAME}"=={pod}'):
            labels = self._labels(ident)
            ours = labels.get(POD_NAMESPACE) == namespace and labels.get(KIND) == "container"
            if ours and ident in pids:
                found.append(Process(pod, labels.get(CONTAINER_NAME, ""), pids[ident]))
        return found

    def clear(self) -> None:
        """End every container, and remove the network namespaces of pods, which kubelets would have removed."""
        idents = self._containers()
        spaces = {space for ident in idents for space in self._network(ident)}
        with ThreadPoolExecutor(4) as several:
            list(several.map(lambda ident: succeeds(*self._ctr, "tasks", "rm", "--force", ident), idents))
        if idents:
            succeeds(*self._ctr, "containers", "rm", *idents)
        for space in spaces:
            succeeds("ip", "netns", "del", space)

    def _containers(self, *filters: str) -> list[str]:
        return run(*self._ctr, "containers", "list", "--quiet", *filters).split()

    def _running(self) -> dict[str, int]:
        lines = run(*self._ctr, "tasks", "list").splitlines()[1:]
        rows: Iterable[list[str]] = (line.split() for line in lines)
        return {row[0]: int(row[1]) for row in rows if row[2] != "STOPPED"}

    def _info(self, ident: str) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(run(*self._ctr, "containers", "info", ident))
        return loaded

    def _labels(self, ident: str) -> dict[str, str]:
        try:
            labels = self._info(ident).get("Labels") or {}
        except MachineError:  # it went meanwhile
            return {}
        assert isinstance(labels, dict)
        return labels

    def _network(self, ident: str) -> list[str]:
        """Names of the network namespaces that its specification mentions."""
        try:
            info = json.dumps(self._info(ident))
        except MachineError:
            return []
        return [part.split('"')[0] for part in info.split("/run/netns/")[1:]]
