"""What the machine must bring: Linux, root, and Debian's packages, which are installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cluster.machine.layout import Layout, MachineError
from cluster.machine.nodes import CNI_PROGRAMS
from cluster.machine.shell import run

# Package, and a program of it that is looked for. (The documents tell a person to use jq and openssl.)
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": str(CNI_PROGRAMS / "bridge"),
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "iproute2": "ip",
    "iptables": "iptables",
    "jq": "jq",
    "nftables": "nft",
    "openssl": "openssl",
    "procps": "sysctl",
    "util-linux": "nsenter",
}
CNI_RESULTS = Path("/var/lib/cni/results")
COMMON_FOLDERS = [
    CNI_RESULTS,
    CNI_RESULTS.parent,
    Path("/run/containerd/s"),
    Path("/run/containerd"),
    Path("/var/lib/kubelet/device-plugins"),
    Path("/var/lib/kubelet"),
]
"""Whose paths are built into CNI's library, containerd's shims and kubelets; inner ones first."""
KEPT_SYSCTLS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops")
"""What a kubelet sets for the whole machine when it starts."""


def prepare() -> None:
    """Raises `MachineError` that says what to do, if this machine cannot have a cluster."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise MachineError(
            "a cluster on this machine needs Linux and root: or name one of yours by KUBECONFIG"
        )
    missing = [package for package, program in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise MachineError(f"install these first: {' '.join(missing)}")
    print(f"installing {' '.join(missing)}", file=sys.stderr, flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-q"], install):
        if subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise MachineError(f"{' '.join(command)} failed")


def note_sysctls(layout: Layout) -> None:
    """As they are before the first cluster."""
    layout.sysctls.parent.mkdir(parents=True, exist_ok=True)
    if not layout.sysctls.exists():
        layout.sysctls.write_text(run("sysctl", *KEPT_SYSCTLS))


def tidy(layout: Layout) -> None:
    """What programs write beside the folders that they are told; and after the last cluster all that is common."""
    for result in CNI_RESULTS.glob(f"{layout.name}-*"):
        result.unlink()
    others = [path for path in layout.sockets.glob("*") if path.is_dir()]
    if layout.sysctls.exists() and not others:
        run("sysctl", "--quiet", "--load", layout.sysctls)
        layout.sysctls.unlink()
        for folder in (layout.sockets, *COMMON_FOLDERS):
            with suppress(OSError):  # somebody else's things are in it
                folder.rmdir()
