"""The jar with mongo-java-server and our main: built by Maven once, kept in the user's cache, used without Maven.

`python -m support.mongo.java_build` builds it ahead of the tests, which otherwise build it when they first need it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).parent / "java"
JAR = "test-mongo.jar"
BUILD_TIMEOUT_S = 300
HOW_TO_INSTALL = "on Debian and Ubuntu: apt install default-jdk-headless maven"


class NoJava(Exception):
    """What is needed is not installed, or Maven could not build."""


def version() -> str:
    """Of mongo-java-server, as the POM names it."""
    pom = (SOURCES / "pom.xml").read_text()
    found = re.search(r"<artifactId>mongo-java-server</artifactId>\s*<version>([^<]+)</version>", pom)
    if found is None:
        raise NoJava(f"{SOURCES / 'pom.xml'} does not say which mongo-java-server")
    return found[1]


def jar_path() -> Path:
    """Where the jar is, or will be: its name changes with every source and with every version in the POM."""
    digest = hashlib.sha256()
    for path in sorted(each for each in SOURCES.rglob("*") if each.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES)} {len(content)}\n".encode() + content)
    return _cache() / digest.hexdigest()[:16] / JAR


def missing() -> str | None:
    """Why there can be no server here; none if there can."""
    tools = ["java"] if jar_path().exists() else ["java", "javac", "mvn"]
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return f"there is no {', no '.join(absent)} ({HOW_TO_INSTALL})" if absent else None


def built_jar() -> Path:
    """The jar, built if there is none. Test runs side by side build it once."""
    jar = jar_path()
    if (why := missing()) is not None:
        raise NoJava(why)
    if not jar.exists():
        jar.parent.mkdir(parents=True, exist_ok=True)
        with _alone(jar.parent / "lock"):
            if not jar.exists():
                _build(jar)
    return jar


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "chatcluster" / "mongo-java-server"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(jar: Path) -> None:
    """In a folder of its own; the jar gets its name only when it is whole."""
    with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
        shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "package"]
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as late:
            raise NoJava(f"Maven did not build {JAR} within {BUILD_TIMEOUT_S} s") from late
        except subprocess.CalledProcessError as failed:
            raise NoJava(f"Maven could not build {JAR}:\n{failed.stdout}{failed.stderr}") from failed
        (Path(folder) / "target" / JAR).replace(jar)


def main() -> None:
    try:
        print(f"mongo-java-server {version()}: {built_jar()}")
    except NoJava as reason:
        sys.exit(f"mongo-java-server {version()}: {reason}")


if __name__ == "__main__":
    main()
