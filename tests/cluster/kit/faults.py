"""What can happen to a cluster of this machine: cables pulled, processes killed and frozen, the API server away.

Each is undone when its `with` ends, whatever happened in it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from cluster.machine import network
from cluster.machine.containers import Containerd, Process
from cluster.machine.controlplane import API_SERVER
from cluster.machine.layout import Node
from cluster.machine.machine import Machine


class Faults:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    # --- nodes ---

    def node(self, name: str) -> Node:
        """By its name in Kubernetes."""
        return next(node for node in self._machine.layout.nodes() if node.name == name)

    @contextmanager
    def node_cut_off(self, name: str) -> Iterator[None]:
        """Nothing reaches it and it reaches nothing; what runs on it runs on, and can be looked at here."""
        node = self.node(name)
        network.set_link(node, up=False)
        try:
            yield
        finally:
            network.set_link(node, up=True)

    @contextmanager
    def kubelet_stopped(self, name: str) -> Iterator[None]:
        """The node goes NotReady while its pods are reachable and well."""
        server = self._machine.server(self.node(name))
        self._machine.processes.kill(server.kubelet)
        try:
            yield
        finally:
            server.start()

    # --- processes of pods ---

    def processes(self, namespace: str, pod: str) -> list[Process]:
        """The first process of each container of a pod, wherever it runs."""
        return [
            process
            for server in self._machine.servers()
            for process in server.containerd.processes(namespace, pod)
        ]

    def kill(self, namespace: str, pod: str) -> None:
        """`kill -9`: no time for a goodbye."""
        for process in self._some(namespace, pod):
            process.send(signal.SIGKILL)

    @contextmanager
    def frozen(self, namespace: str, pod: str) -> Iterator[None]:
        """All of its processes stand still, and their sockets stay open."""
        first = [psutil.Process(process.pid) for process in self._some(namespace, pod)]
        stopped = [*first, *(child for process in first for child in process.children(recursive=True))]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    # --- the control plane ---

    @contextmanager
    def api_server_away(self) -> Iterator[None]:
        """It is killed, and connections to it are refused; afterwards it answers again."""
        self._machine.processes.kill(API_SERVER)
        try:
            yield
        finally:
            self._machine.control_plane.start_api_server()

    @contextmanager
    def api_server_silent(self) -> Iterator[None]:
        """It takes connections and answers none; watches stay open and say nothing."""
        processes = self._machine.processes
        processes.send(API_SERVER, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.send(API_SERVER, signal.SIGCONT)

    # --- images ---

    def tag(self, image: str, name: str) -> None:
        """Have a loaded image under another name, too, in every node: a new version of the same."""
        for containerd in self._nodes():
            containerd.tag(image, name)

    def _nodes(self) -> list[Containerd]:
        return [server.containerd for server in self._machine.servers()]

    def _some(self, namespace: str, pod: str) -> list[Process]:
        found = self.processes(namespace, pod)
        assert found, f"no process of {namespace}/{pod} runs on any node"
        return found
