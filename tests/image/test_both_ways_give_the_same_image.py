"""The Dockerfile, built by buildah, and the tests' own way of making the image: the same files and commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.machine import images, layers
from cluster.machine.layout import cache

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="layers are made in a chroot: only root can"),
    pytest.mark.skipif(
        shutil.which("buildah") is None, reason="there is no buildah (on Debian: apt install buildah)"
    ),
]

SOURCE = Path(__file__).parents[2]
STORE = cache() / "buildah"
BUILD_S = 1800
TOLD_TO_PIP = ("PIP_INDEX_URL", "PIP_CERT")
FOLDERS_OF_THE_RUNTIME = ("dev", "proc", "run", "sys", "tmp", "etc/resolv.conf", "etc/hosts", "etc/hostname")
"""What is mounted over, or made, when a container starts."""

File = tuple[str, int, int, int]
"""Content (a hash, or where a link leads), permissions, owner, group."""


def buildah(*arguments: str | Path) -> str:
    store = [f"--root={STORE}/root", f"--runroot={STORE}/run"]
    done = subprocess.run(
        ["buildah", *store, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, f"buildah {arguments[0]}: {done.stderr[-4000:]}"
    return done.stdout.strip()


def base_image() -> str:
    """The tests' Debian with Python, as an image of buildah's."""
    debian = layers.base()
    name = f"localhost/debian-python:{debian.digest.removeprefix('sha256:')[:16]}"
    if name not in buildah("images", "--format={{.Name}}:{{.Tag}}").split():
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, debian.path, "/")
        buildah("commit", "--quiet", container, name)
        buildah("rm", container)
    return name


@pytest.fixture(scope="module")
def built() -> str:
    """The Dockerfile's image."""
    name = "localhost/chatcluster:dockerfile"
    told = [f"--build-arg={key}={os.environ[key]}" for key in TOLD_TO_PIP if os.environ.get(key)]
    trust = os.environ.get("PIP_CERT")
    mounted = [f"--volume={trust}:{trust}:ro"] if trust else []
    arguments = ["--isolation=chroot", "--layers", f"--build-arg=BASE={base_image()}", *told, *mounted]
    buildah("build", *arguments, f"--tag={name}", SOURCE)
    return name


@contextmanager
def files_of(image: str) -> Iterator[Path]:
    container = buildah("from", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("umount", container)
        buildah("rm", container)


def files(root: Path) -> dict[str, File]:
    found: dict[str, File] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.startswith(FOLDERS_OF_THE_RUNTIME):
            continue
        facts = path.lstat()
        content = ""
        if stat.S_ISLNK(facts.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(facts.st_mode):
            content = digest(name, path)
        found[name] = (content, facts.st_mode, facts.st_uid, facts.st_gid)
    return found


def digest(name: str, path: Path) -> str:
    """Of what does not depend on the version of pip, nor on when it was compiled."""
    if name.endswith(".pyc"):
        return "bytecode"
    content = path.read_bytes()
    if name.endswith(".dist-info/RECORD"):
        content = "\n".join(sorted(line.split(",")[0] for line in content.decode().splitlines())).encode()
    elif name.endswith("direct_url.json"):
        content = json.dumps(json.loads(content)["url"]).encode()
    elif name.startswith(f"{images.VENV[1:]}/bin/") and content.startswith(b"#!"):
        content = "\n".join(re.findall(r"^#!.*|^from .*", content.decode(), re.MULTILINE)).encode()
    return hashlib.sha256(content).hexdigest()


def together(image: images.Image) -> dict[str, File]:
    """The layers, one over the other."""
    found: dict[str, File] = {}
    for layer in image.layers:
        found |= files(layer.folder)
    return found


def config_of(image: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(buildah("inspect", "--type=image", image))["OCIv1"]["config"]
    return told


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in config["Env"])


def test_the_files_are_the_same(built: str) -> None:
    expected = together(images.product(SOURCE))
    with files_of(built) as root:
        found = files(root)
    assert sorted(found.keys() - expected.keys()) == []
    assert sorted(expected.keys() - found.keys()) == []
    assert {name: (found[name], expected[name]) for name in found if found[name] != expected[name]} == {}


def test_the_user_the_commands_and_the_environment_are_the_same(built: str) -> None:
    config, expected = config_of(built), images.product(SOURCE).config
    assert config["User"] == expected["User"]
    assert config["WorkingDir"] == expected["WorkingDir"]
    assert environment(config) == environment(expected)
    assert config.get("Entrypoint") == expected.get("Entrypoint") is None
    assert not config.get("Cmd")


def test_every_command_runs_as_nobody_without_writing(built: str) -> None:
    """What pods are started with is there, and needs no home and no file that it may write."""
    container = buildah("from", built)
    try:
        modules = ["chatpod.main", "apipod.main", "worker.main", "prober.main", "chatoperator.schemajob"]
        words = ["run", "--isolation=chroot", "--user=65532:65532", container, "--"]
        for module in modules:
            buildah(*words, "python", "-c", f"import {module}")
        assert "Usage" in buildah(*words, "chatctl", "--help")
    finally:
        buildah("rm", container)
