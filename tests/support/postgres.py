"""A real PostgreSQL for tests: a throw-away cluster on a port of its own, as an unprivileged user, broken on purpose.

`fsync` is on, unless a test says otherwise: what it acked has to be there after a crash.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from support.valkey import free_port

USER, PASSWORD = "chat", secrets.token_hex(8)
VERSION_MIN = 14
START_S = 60.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "deadlock_timeout": "200ms",
    # So that a standby that lost its primary asks again soon.
    "wal_retrieve_retry_interval": "200ms",
    "fsync": "on",
    "synchronous_commit": "on",
}


def binaries() -> Path:
    """Where the newest PostgreSQL of this machine is. Debian keeps them out of PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    if found and int(found[0].parts[-3]) >= VERSION_MIN:
        return found[0].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise RuntimeError("there is no PostgreSQL here: apt install postgresql-15")
    return Path(on_path).resolve().parent


def _unprivileged() -> tuple[list[str], pwd.struct_passwd]:
    """How to run a command as a user that PostgreSQL accepts, and which; it ends when we do."""
    dying = ["setpriv", "--pdeathsig", "SIGQUIT"]
    if os.getuid() != 0:
        return dying if shutil.which("setpriv") else [], pwd.getpwuid(os.getuid())
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return [*dying, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"], user


class Postgres:
    """One server that can be killed, frozen, copied to a standby and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        kept = folder / "password"
        self._password = kept.read_text() if kept.exists() else PASSWORD
        self._bin = binaries()
        self._as_user, self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        os.chmod(folder, 0o700)
        os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def url(self, database: str = "postgres", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}" + (
            query and f"?{query}"
        )

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(self._password)
        password.chmod(0o644)
        self._run(
            "initdb",
            *("-D", str(self.data), "-U", USER, "--pwfile", str(password), "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        )

    def copy_to(self, folder: Path) -> Postgres:
        """A standby of this one, which streams from it; not started."""
        standby = Postgres(folder)
        source = f"host=127.0.0.1 port={self.port} user={USER} password={self._password}"
        standby._run(
            "pg_basebackup", "-D", str(standby.data), "-d", source, "-R", "-X", "stream", "-c", "fast"
        )
        return standby

    def start(self, **settings: object) -> None:
        self.launch(**settings)
        deadline = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def launch(self, **settings: object) -> None:
        """Without waiting until it answers. Not from a passing thread: the server ends with the one that began it."""
        given = {**_SETTINGS, "port": self.port, "unix_socket_directories": self.folder, **settings}
        command = [*self._as_user, str(self._bin / "postgres"), "-D", str(self.data)]
        command += [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def ended(self) -> bool:
        """Whether it was killed, or gave up by itself."""
        return self._process is None or self._process.poll() is not None

    def answers(self) -> bool:
        found = self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False)
        return found.returncode == 0

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as when the host loses power."""
        processes = self._processes()
        _tell(processes, signal.SIGKILL)
        self._gone(processes)

    def stop(self) -> None:
        """At once, with all its processes."""
        if self._process is not None:
            processes = self._processes()
            _tell(processes, signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._gone(processes)

    def freeze(self) -> None:
        _tell(self._processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        _tell(self._processes(), signal.SIGCONT)

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", str(self.data), "-w")

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run it as somebody else would; what it answers, without decoration."""
        return self.run(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", text
        ).stdout.strip()

    def run(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._bin / name), *arguments], check=check, capture_output=True, text=True
        )

    def _run(self, name: str, *arguments: str) -> None:
        command: Sequence[str] = [*self._as_user, str(self._bin / name), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def _processes(self) -> list[psutil.Process]:
        """The postmaster, first, so that it cannot start others meanwhile."""
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def _gone(self, processes: list[psutil.Process]) -> None:
        """Until the last of them is, the next server would find its memory in use."""
        assert self._process is not None
        self._process.wait(START_S)
        psutil.wait_procs(processes, START_S)
        self._process = None


def _tell(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # It ended by itself meanwhile.
            process.send_signal(number)


@contextmanager
def postgres_server(**settings: object) -> Iterator[Postgres]:
    """A started cluster in a folder of its own, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="chat-pg-"))
    server = Postgres(folder)
    try:
        server.create()
        server.start(**settings)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standby_of(primary: Postgres) -> Iterator[Postgres]:
    """A standby that the primary's commits wait for."""
    folder = Path(tempfile.mkdtemp(prefix="chat-pg-"))
    standby = primary.copy_to(folder)
    try:
        standby.start()
        until_in_step(primary)
        yield standby
    finally:
        standby.stop()
        shutil.rmtree(folder, ignore_errors=True)


def until_in_step(primary: Postgres) -> None:
    """Until its commits wait for the standby that streams from it."""
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + START_S
    while primary.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fresh_database(server: Postgres, template: str = "template1") -> str:
    """Its name. Each test has one of its own."""
    name = f"t{secrets.token_hex(6)}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def drop_database(server: Postgres, name: str) -> None:
    server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
