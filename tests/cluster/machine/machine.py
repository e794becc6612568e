"""A whole cluster: from nothing to nodes that are Ready, and back to nothing."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from cluster.machine import certificates, images, imagestore, network, programs, system
from cluster.machine.archive import Image
from cluster.machine.controlplane import ControlPlane
from cluster.machine.kwok import Kwok
from cluster.machine.layout import NODES_MAX, Layout, MachineError, Node, entering
from cluster.machine.nodes import NodeServer
from cluster.machine.processes import Processes, until
from cluster.machine.shell import run

CONTAINERD_S = 60.0
READY_S = 180.0


class Machine:
    """One cluster on this machine, whether it is up or not."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.processes = Processes(layout.state)
        self._began = time.monotonic()

    @property
    def programs(self) -> Path:
        return programs.folder()

    @property
    def control_plane(self) -> ControlPlane:
        return ControlPlane(self.layout, self.processes, self.programs)

    @property
    def kwok(self) -> Kwok:
        return Kwok(self.layout, self.processes)

    def servers(self) -> list[NodeServer]:
        """Of the nodes that are up."""
        return [self.server(node) for node in self.layout.nodes()]

    def server(self, node: Node) -> NodeServer:
        return NodeServer(self.layout, node, self.processes, self.programs)

    def is_up(self) -> bool:
        return bool(self.layout.nodes()) and self.control_plane.answers()

    def up(self, nodes: int, *, kwok: bool = False) -> None:
        """Start what does not run of it; more nodes than before are added."""
        if not 1 <= nodes <= NODES_MAX:
            raise MachineError(f"a cluster here has 1 to {NODES_MAX} nodes")
        system.prepare()
        programs.built()
        self._say("programs are built")
        wanted = [self.layout.node(number + 1) for number in range(max(nodes, len(self.layout.nodes())))]
        with ThreadPoolExecutor(1) as beside:
            making = beside.submit(images.product)
            standing = [images.pause(self.programs), *(make() for make in images.stores()), images.packages()]
            store = imagestore.made(standing)
            self._say("images are built")
            self._lay_out(wanted)
            servers = [self.server(node) for node in wanted]
            for server in servers:
                server.start_runtime(store)
            self.control_plane.start()
            self._say("the API server answers")
            for server in servers:
                log = self.processes.log(server.runtime)
                until(server.containerd.answers, CONTAINERD_S, f"containerd: see {log}")
            self.load([*standing, making.result()])
            self._say("images are loaded")
        for server in servers:
            server.start()
        if kwok:
            self.kwok.start()
        for node in wanted:
            until(
                partial(self._is_ready, node),
                READY_S,
                f"{node.name}: see {self.layout.state}/log",
                0.3,
            )
        self._say(f"{len(wanted)} nodes are ready")

    def down(self) -> None:
        """End it, and remove all that is left of it, whatever state it is in."""
        nodes = self.servers()
        runtimes = {server.runtime for server in nodes}
        # First whoever would start containers again; then the containers; then who holds them.
        self.processes.stop(name for name in self.processes.names() if name not in runtimes)
        with ThreadPoolExecutor(NODES_MAX) as several:
            list(several.map(self._end_containers, nodes))
        self.processes.stop(runtimes)
        for server in nodes:
            server.clear()
            network.remove(server.node.label)
        network.remove(self.layout.name)
        shutil.rmtree(self.layout.state, ignore_errors=True)
        shutil.rmtree(self.layout.run, ignore_errors=True)
        system.tidy(self.layout)
        with suppress(OSError):
            self.layout.root.rmdir()
        self._say("nothing of it is left")

    def load(self, loaded: Sequence[Image]) -> None:
        """Into every node, side by side."""
        servers = self.servers()
        with ThreadPoolExecutor(len(servers)) as several:
            list(several.map(lambda server: [server.containerd.load(image) for image in loaded], servers))

    def kubectl(self, *arguments: str) -> str:
        """Its output; raises `MachineError` with what it complains of."""
        command: list[str | Path] = [
            self.programs / "kubectl",
            f"--kubeconfig={self.layout.kubeconfig}",
            *arguments,
        ]
        return run(*entering(self.layout.name), *command)

    def _lay_out(self, nodes: Sequence[Node]) -> None:
        """Folders, certificates and networks."""
        self.layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.layout.run.mkdir(parents=True, exist_ok=True)
        # Nobody answers for names that are not the cluster's.
        (self.layout.state / "resolv.conf").write_text("")
        system.note_sysctls(self.layout)
        certificates.make(self.layout, nodes)
        network.build(self.layout, nodes)

    def _end_containers(self, server: NodeServer) -> None:
        if self.processes.pid(server.runtime) is not None:
            with suppress(MachineError):
                server.containerd.clear()

    def _is_ready(self, node: Node) -> bool:
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        try:
            return self.kubectl("get", "node", node.name, f"--output=jsonpath={path}") == "True"
        except MachineError:
            return False

    def _say(self, what: str) -> None:
        print(
            f"cluster {self.layout.name}: {time.monotonic() - self._began:5.1f} s: {what}",
            file=sys.stderr,
            flush=True,
        )
