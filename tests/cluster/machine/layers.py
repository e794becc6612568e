"""Layers of images, made in a chroot and kept in the user's cache: a tar each, by what it is made of."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.machine.layout import MachineError, cache
from cluster.machine.programs import alone
from cluster.machine.shell import run

DEBIAN = "bookworm"
PYTHON = "3.11"
"""Debian 12's."""
BASE_PACKAGES = "ca-certificates,python3"
NOT_NEEDED = (
    "rm -rf /var/cache/apt/* /var/cache/debconf/* /var/lib/apt/lists/* /var/log/* "
    "/usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*"
)
UNUSED_S = 5 * 86_400
BASE_RECIPE = f"{DEBIAN} {BASE_PACKAGES} {NOT_NEEDED}"

# Everything is mounted in a mount namespace that ends with the command, so nothing can stay behind. Arguments: the
# folders below (colon-separated), the layer's, overlayfs' own, the mount point, a folder for /mnt, the command.
_IN_CHROOT = """
mount -t overlay layer -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
mount -t proc proc "$4/proc"
mount --rbind /dev "$4/dev"
mount --bind /etc/resolv.conf "$4/etc/resolv.conf"
mount --bind "$5" "$4/mnt"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \\
  DEBIAN_FRONTEND=noninteractive chroot "$4" sh -euc "$6"
"""

Make = Callable[[Path, Path], None]
"""Fills a layer's folder; the second is one for scratch, on the same disk."""


@dataclass(frozen=True)
class Layer:
    """A tar, not compressed: it travels from this disk to this disk."""

    path: Path
    digest: str
    size: int

    @property
    def folder(self) -> Path:
        """Its files, for layers on top of it."""
        return self.path.with_suffix("")


def base() -> Layer:
    """Debian with Python."""

    def make(root: Path, _: Path) -> None:
        # What it mounts goes with this namespace, even when it is interrupted.
        made = ["unshare", "--mount", "--propagation=private", "--fork", "debootstrap", "--variant=minbase"]
        run(*made, f"--include={BASE_PACKAGES}", DEBIAN, root, timeout_s=1800)
        run("chroot", root, "sh", "-euc", NOT_NEEDED)
        for device in (root / "dev").iterdir():
            shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
        # Each kubelet and each layer on top mounts its own over it.
        (root / "etc" / "resolv.conf").write_text("")
        (root / "etc" / "hostname").unlink(missing_ok=True)

    return _kept("debian", [BASE_RECIPE], make, same_time=False)


def of_files(name: str, files: Mapping[str, Path]) -> Layer:
    """Only these."""

    def make(root: Path, _: Path) -> None:
        for file, source in files.items():
            shutil.copy(source, root / file)

    return _kept(name, [f"{file} {_digest(source)}" for file, source in sorted(files.items())], make)


def folder() -> Path:
    """Where layers are kept, and what they are made with."""
    return cache() / "layers"


def on(
    below: Sequence[Layer],
    name: str,
    command: str,
    made_of: Sequence[str] = (),
    bring: Callable[[Path], object] = lambda _: None,
) -> Layer:
    """What a shell command, run as root on top of these layers, adds.

    `bring` fills the folder that is /mnt while it runs; `made_of` says what it brings, so that the layer is made
    again when that changes, and only then.
    """

    def make(upper: Path, scratch: Path) -> None:
        own, merged, mnt = scratch / "own", scratch / "merged", scratch / "mnt"
        for each in (own, merged, mnt):
            each.mkdir()
        bring(mnt)
        lower = ":".join(str(layer.folder) for layer in reversed(below))
        unshared = [
            "unshare",
            "--mount",
            "--propagation=private",
            "--fork",
            "sh",
            "-euc",
            _IN_CHROOT,
            "layer",
        ]
        run(*unshared, lower, upper, own, merged, mnt, command, timeout_s=1800)

    return _kept(name, [*(layer.digest for layer in below), command, *made_of], make)


def apt(packages: str, then: str = "true") -> str:
    """A command for `on`: install Debian's packages, of which no service starts."""
    install = f"apt-get install -y -q --no-install-recommends {packages}"
    return f"apt-get update -q && {install} && {then} && apt-get clean && {NOT_NEEDED}"


def _kept(name: str, told: Sequence[str], make: Make, same_time: bool = True) -> Layer:
    """From the cache, or made. Its files stay unpacked beside the tar. Several who ask make it once."""
    key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    path = folder() / f"{name}-{key}.tar"
    facts = path.with_suffix(".json")
    folder().mkdir(parents=True, exist_ok=True)
    if not facts.exists():
        with alone(folder() / f"{name}.lock"):
            if not facts.exists():
                print(f"making the layer {name}", file=sys.stderr, flush=True)
                _make(path, make, same_time)
                fresh = facts.with_suffix(".new")
                fresh.write_text(
                    json.dumps({"digest": f"sha256:{_digest(path)}", "size": path.stat().st_size})
                )
                fresh.rename(facts)
                _forget_old(name)
    facts.touch()
    known = json.loads(facts.read_text())
    return Layer(path, known["digest"], known["size"])


def _forget_old(name: str) -> None:
    """Layers of this name that nobody has used for days: every change of code makes one."""
    for facts in folder().glob(f"{name}-*.json"):
        if time.time() - facts.stat().st_mtime > UNUSED_S:
            facts.unlink()
            facts.with_suffix(".tar").unlink(missing_ok=True)
            shutil.rmtree(facts.with_suffix(""), ignore_errors=True)


def _make(path: Path, make: Make, same_time: bool) -> None:
    files = path.with_suffix("")
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    with _scratch(path.parent) as scratch:
        make(files, scratch)
    _refuse_whiteouts(files)
    # The same files make the same layer, whenever; bytecode in it must not depend on times, then.
    options = ["--mtime=@0"] if same_time else []
    run("tar", "--numeric-owner", "--sort=name", *options, "-C", files, "-cf", path, ".")


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=beside, ignore_cleanup_errors=True) as made:
        yield Path(made)


def _refuse_whiteouts(root: Path) -> None:
    """A layer that removes files of those below needs them written as images do: none of ours has to."""
    for path in root.rglob("*"):
        if stat.S_ISCHR(path.lstat().st_mode):
            raise MachineError(f"the layer {root.name} removes {path.relative_to(root)} of a layer below")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
