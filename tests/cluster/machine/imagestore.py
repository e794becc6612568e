"""What every node's containerd holds from the start: imported and unpacked once, then linked into each node.

To unpack the images again in each node takes most of the time of a `cluster-up` (100 s of 115 on a loaded machine
with two cores). What containerd keeps of an image, blobs and unpacked layers, is written once and then only read or
removed; its databases are copied.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.machine.archive import Image
from cluster.machine.containers import Containerd
from cluster.machine.layers import UNUSED_S
from cluster.machine.layout import cache
from cluster.machine.processes import until
from cluster.machine.programs import alone
from cluster.machine.shell import run

START_S = 60.0


def made(images: Sequence[Image]) -> Path:
    """The folder with what a containerd holds that has these; made if it is not there."""
    told = [run("containerd", "--version"), *(f"{image.name} {image.digest}" for image in images)]
    key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    path = cache() / f"images-{key}"
    if not path.exists():
        with alone(cache() / "images.lock"):
            if not path.exists():
                print("unpacking images", file=sys.stderr, flush=True)
                fresh = path.with_name(path.name + ".new")
                shutil.rmtree(fresh, ignore_errors=True)
                with _containerd(fresh) as containerd:
                    for image in images:
                        containerd.load(image)
                fresh.rename(path)
                _forget_old()
    path.touch()
    return path


def give(store: Path, root: Path) -> None:
    """To a containerd that has not run yet, for its `root`."""
    root.mkdir(parents=True)
    same_disk = store.stat().st_dev == root.stat().st_dev
    run("cp", "--archive", *(["--link"] if same_disk else []), f"{store}/.", root)
    for database in store.rglob("*.db"):
        run("cp", "--archive", "--remove-destination", database, root / database.relative_to(store))


@contextmanager
def _containerd(root: Path) -> Iterator[Containerd]:
    """One for as long as it takes; its socket is where paths are short."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        config = Path(folder) / "config.toml"
        containerd = Containerd(Path(folder) / "socket")
        config.write_text(
            f"""version = 2
root = "{root}"
state = "{folder}/state"
[grpc]
  address = "{containerd.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{folder}/cni"
"""
        )
        quiet = subprocess.DEVNULL
        with subprocess.Popen(["containerd", "--config", config], stdout=quiet, stderr=quiet) as process:
            try:
                until(containerd.answers, START_S, "a containerd to unpack images with")
                yield containerd
            finally:
                process.terminate()


def _forget_old() -> None:
    for path in cache().glob("images-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > UNUSED_S:
            shutil.rmtree(path, ignore_errors=True)
