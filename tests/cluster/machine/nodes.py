"""A node: containerd, kubelet and kube-proxy, with folders, a network namespace and a cgroup of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cluster.machine import imagestore
from cluster.machine.containers import Containerd
from cluster.machine.layout import API_ADDRESS, DNS_DOMAIN, PODS, Layout, Node, entering
from cluster.machine.processes import Processes
from cluster.machine.shell import succeeds

CNI_PROGRAMS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
CGROUPS = Path("/sys/fs/cgroup")
PAUSE_IMAGE = "localhost/pause:1"
ZONES = 3
"""Node i is in zone (i - 1) mod 3 + 1, so that what is spread over zones can be tested."""
LOG_LINKS = Path("/var/log/containers")
"""Where every kubelet puts a link to each container's log, whatever its folders are."""


class NodeServer:
    def __init__(self, layout: Layout, node: Node, processes: Processes, programs: Path) -> None:
        self.node, self._layout = node, layout
        self._processes, self._programs = processes, programs
        self._state, self._run = layout.node_state(node), layout.node_run(node)
        self.containerd = Containerd(layout.containerd(node))

    @property
    def kubelet(self) -> str:
        """Names of the processes."""
        return f"{self.node.name}.kubelet"

    @property
    def proxy(self) -> str:
        return f"{self.node.name}.proxy"

    @property
    def runtime(self) -> str:
        return f"{self.node.name}.containerd"

    def start_runtime(self, store: Path) -> None:
        """containerd, with the images of an image store from its first start. They can be there before Kubernetes."""
        root = self._state / "containerd"
        if not root.exists():
            imagestore.give(store, root)
        for folder in (self._state / "cni", self._run):
            folder.mkdir(parents=True, exist_ok=True)
        (self._state / "cni" / "10-bridge.conflist").write_text(json.dumps(self._cni()))
        config = self._state / "containerd.toml"
        config.write_text(self._containerd_config())
        self._start(self.runtime, "containerd", "--config", config)

    def start(self) -> None:
        """kubelet and kube-proxy."""
        for group in self._cgroups():
            group.mkdir(exist_ok=True)
            if (group / "cpuset.cpus").exists() and group.parent.name == "cpuset":
                # Version 1: an empty set of processors takes no process.
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((group.parent / name).read_text())
        self._start_kubelet()
        self._start_proxy()

    def clear(self) -> None:
        """After its processes have ended: mounts, cgroups, files."""
        _unmount_below(self._state, self._run)
        for group in self._cgroups():
            for folder in sorted(group.rglob("*"), reverse=True):
                if folder.is_dir():
                    folder.rmdir()
            if group.exists():
                group.rmdir()
        for link in LOG_LINKS.glob("*.log"):
            if link.is_symlink() and link.readlink().is_relative_to(self._state):
                link.unlink()
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.rmtree(self._state, ignore_errors=True)

    def _start(self, name: str, program: str | Path, *arguments: str | Path) -> None:
        self._processes.start(name, [*entering(self.node.label), program, *arguments])

    def _start_kubelet(self) -> None:
        config = self._state / "kubelet.json"
        config.write_text(json.dumps(self._kubelet_config(), indent=1))
        zone = f"zone-{(self.node.number - 1) % ZONES + 1}"
        self._start(
            self.kubelet,
            self._programs / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self._layout.kubeconfig_of(self.node.name)}",
            f"--hostname-override={self.node.name}",
            f"--node-ip={self.node.address}",
            f"--root-dir={self._state}/kubelet",
            f"--node-labels=topology.kubernetes.io/zone={zone}",
        )

    def _start_proxy(self) -> None:
        if self._processes.pid(self.proxy) is not None:
            return  # It ends when its configuration is written to, even if that is the same.
        config = self._state / "proxy.json"
        config.write_text(json.dumps(self._proxy_config(), indent=1))
        program = self._programs / "kube-proxy"
        self._start(self.proxy, program, f"--config={config}", f"--hostname-override={self.node.name}")

    def _cgroups(self) -> list[Path]:
        """Its own, under which its kubelet puts those of pods: one, or one in each hierarchy of version 1."""
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS / self.node.label]
        return [
            tree / self.node.label for tree in CGROUPS.iterdir() if tree.is_dir() and not tree.is_symlink()
        ]

    def _kubelet_config(self) -> dict[str, object]:
        pki = self._layout.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.node.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/{self.node.name}.crt",
            "tlsPrivateKeyFile": f"{pki}/{self.node.name}.key",
            "containerRuntimeEndpoint": f"unix://{self._layout.containerd(self.node)}",
            "podLogsDir": f"{self._state}/pods",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.node.label}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [API_ADDRESS],
            "clusterDomain": DNS_DOMAIN,
            "resolvConf": str(self._layout.state / "resolv.conf"),
            # The disk is this machine's; a node that sheds pods because it is nearly full would test nothing.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "5s",
            "nodeLeaseDurationSeconds": 12,
        }

    def _proxy_config(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self._layout.kubeconfig_of("proxy"))},
            "clusterCIDR": f"{PODS}.0.0/16",
            "bindAddress": "0.0.0.0",
            # Connection tracking is the machine's: leave it as it is.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }

    def _cni(self) -> dict[str, object]:
        return {
            "cniVersion": "1.0.0",
            "name": self._layout.name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{self._run}/ipam",
                        "ranges": [[{"subnet": self.node.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _containerd_config(self) -> str:
        return f"""version = 2
root = "{self._state}/containerd"
state = "{self._run}/containerd"
[grpc]
  address = "{self._layout.containerd(self.node)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self._state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{self._state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{self._run}/runc"
"""


def _unmount_below(*folders: Path) -> None:
    """Innermost first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if any(Path(point).is_relative_to(folder) for folder in folders):
            succeeds("umount", "--lazy", point)
