"""The images of the tests: ours, and the servers that a development cluster needs. None is ever pulled.

Ours is made as the Dockerfile makes it: Debian and Python; the locked packages in a venv; our wheel. The others take
what the official images of those names take (command, variables, ports), so that manifests fit both.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from support.mongo.java_build import built_jar, jar_path

from cluster.machine import layers
from cluster.machine.archive import Image
from cluster.machine.layers import PYTHON, Layer, apt
from cluster.machine.nodes import PAUSE_IMAGE
from cluster.machine.shell import run

REPOSITORY = Path(__file__).parents[3]
PRODUCT = "localhost/chatcluster"
PRODUCT_TAG = "dev"
REDIS = "localhost/redis:7"
POSTGRESQL = "localhost/postgresql:15"
MONGODB = "localhost/mongodb:java"

VENV = "/opt/chatcluster"
LOCK = "requirements-operator.lock"
USER = "65532:65532"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GLIBC_MINOR = 36
"""Of Debian 12: wheels for it and for older ones run there."""

# Bytecode that is never compared with its source: a read-only root could not renew it, and layers have no times.
# Not of the Kubernetes client's models and typed calls: they are the larger part of all packages, and we load none.
_UNUSED = "/kubernetes/(aio/)?client/(api|models)/"
_COMPILE = f"{VENV}/bin/python -m compileall -q --invalidation-mode unchecked-hash -x '{_UNUSED}'"
_PIP = (
    f"{VENV}/bin/python /mnt/pip.whl/pip --disable-pip-version-check --no-cache-dir install --quiet --no-compile "
    "--root-user-action=ignore --no-index"
)
_POSTGRESQL_HOME = "/usr/lib/postgresql/15"
_REDIS_UID = _POSTGRESQL_UID = _MONGODB_UID = 999


def pause(programs: Path) -> Image:
    """What holds a pod's namespaces."""
    program = programs / "pause"
    layer = layers.of_files("pause", {"pause": program})
    return Image(PAUSE_IMAGE, [layer], {"Entrypoint": ["/pause"]})


def product(source: Path = REPOSITORY, tag: str = PRODUCT_TAG) -> Image:
    """Ours, from a checkout as it is now. A change of code makes one small layer, in seconds."""
    debian = layers.base()
    packages = _packages(debian, source / LOCK)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(source, Path(folder))
        ours = layers.on(
            [debian, packages],
            "chatcluster",
            f"{_PIP} --no-deps --root /mnt/ours /mnt/chatcluster-*.whl && "
            f"{_COMPILE} -s /mnt/ours /mnt/ours{VENV}/lib && cp -a /mnt/ours/. /",
            made_of=[hashlib.sha256(wheel.read_bytes()).hexdigest()],
            bring=partial(_bring_pip, beside=wheel),
        )
    config = {
        "User": USER,
        "WorkingDir": "/",
        "Env": [f"PATH={VENV}/bin:{SYSTEM_PATH}", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"],
    }
    return Image(f"{PRODUCT}:{tag}", [debian, packages, ours], config)


def packages(source: Path = REPOSITORY) -> Image:
    """Ours without us: what stays the same while code changes."""
    debian = layers.base()
    return Image(f"{PRODUCT}-packages:base", [debian, _packages(debian, source / LOCK)])


def redis() -> Image:
    layer = _debian_server("redis", "redis-server", "mkdir -m 0777 /data", "redis", _REDIS_UID)
    return Image(REDIS, layer, _server(["redis-server"], 6379, _REDIS_UID, WorkingDir="/data"))


def postgresql() -> Image:
    start = (Path(__file__).parent / "postgresql-start.sh").read_text()
    # Its just-in-time compiler is half of its size and of no use here.
    shrink = f"rm -rf {_POSTGRESQL_HOME}/lib/bitcode {_POSTGRESQL_HOME}/lib/llvmjit* /usr/lib/*/libLLVM*"
    folders = (
        "mkdir -p -m 0777 /var/lib/postgresql/data && chmod 0777 /var/lib/postgresql/data /var/run/postgresql"
    )
    layer = _debian_server(
        "postgresql",
        "postgresql-15",
        f"{shrink} && {folders} && install -m 0755 /mnt/start /usr/local/bin/postgresql-start",
        "postgres",
        _POSTGRESQL_UID,
        before="mkdir -p /etc/postgresql-common/createcluster.d && "
        "echo create_main_cluster=false >/etc/postgresql-common/createcluster.d/none.conf",
        made_of=[start],
        bring=lambda mnt: (mnt / "start").write_text(start),
    )
    config = _server(["postgresql-start"], 5432, _POSTGRESQL_UID, path=f"{_POSTGRESQL_HOME}/bin:")
    return Image(POSTGRESQL, layer, config)


def mongodb() -> Image:
    """mongo-java-server: it keeps nothing, and knows no users."""
    layer = _debian_server(
        "mongodb",
        "default-jre-headless",
        "install -m 0644 /mnt/server.jar /usr/local/lib/mongodb.jar",
        "mongodb",
        _MONGODB_UID,
        # Its set-up links manual pages into a folder that the base does without.
        before="mkdir -p /usr/share/man/man1",
        made_of=[jar_path().parent.name],
        bring=lambda mnt: shutil.copy(built_jar(), mnt / "server.jar"),
    )
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
    command = ["java", *options, "-jar", "/usr/local/lib/mongodb.jar", "27017", "0.0.0.0"]
    return Image(MONGODB, layer, _server(command, 27017, _MONGODB_UID))


def stores() -> list[Callable[[], Image]]:
    """All that a development cluster needs beside ours."""
    return [redis, postgresql, mongodb]


def _debian_server(
    name: str,
    packages: str,
    then: str,
    user: str,
    uid: int,
    before: str = "true",
    made_of: Sequence[str] = (),
    bring: Callable[[Path], object] = lambda _: None,
) -> list[Layer]:
    debian = layers.base()
    add_user = f"groupadd -r -g {uid} {user} && useradd -r -u {uid} -g {uid} --no-log-init {user}"
    command = f"{add_user} && {before} && {apt(packages, then)}"
    return [debian, layers.on([debian], name, command, made_of, bring)]


def _server(command: Sequence[str], port: int, uid: int, path: str = "", **more: object) -> dict[str, object]:
    return {
        "Cmd": list(command),
        "User": f"{uid}:{uid}",
        "Env": [f"PATH={path}{SYSTEM_PATH}", "LANG=C.UTF-8"],
        "ExposedPorts": {f"{port}/tcp": {}},
        **more,
    }


def _packages(debian: Layer, lock: Path) -> Layer:
    # The newest first, as pip itself chooses on that Debian: a package may have a wheel for each of several.
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    abis = ["--abi=cp311", "--abi=abi3", "--abi=none"]
    fits = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *abis, *platforms]

    def bring(mnt: Path) -> None:
        shutil.copy(lock, mnt / "lock")
        _bring_pip(mnt)
        # All of the lock: which of it is for that Python is decided there, and pip would go by the one that runs it.
        every = mnt / "every"
        every.write_text(re.sub(r" ; .*?( \\)?$", r"\1", lock.read_text(), flags=re.MULTILINE))
        _pip("download", "--require-hashes", "--no-deps", *fits, "--dest", mnt, "-r", every)

    install = f"{_PIP} --find-links /mnt --require-hashes -r /mnt/lock"
    command = f"python3 -m venv --without-pip {VENV} && {install} && {_COMPILE} {VENV}/lib"
    return layers.on([debian], "packages", command, [lock.read_text(), *fits], bring)


def _bring_pip(mnt: Path, beside: Path | None = None) -> None:
    """pip installs from its own wheel, which stays out of the image; and what it is to install, perhaps."""
    if beside is not None:
        shutil.copy(beside, mnt)
    kept = layers.folder() / "pip"
    if not list(kept.glob("pip-*.whl")):
        _pip("download", "--no-deps", "--dest", kept, "pip")
    shutil.copy(sorted(kept.glob("pip-*.whl"))[-1], mnt / "pip.whl")


def _pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, timeout_s=900)


def _wheel(source: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    return wheel
