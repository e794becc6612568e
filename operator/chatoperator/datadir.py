"""The one directory that a laptop cluster writes: what is in it, who may read it, and who is using it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from chatkernel.settings import SecretFile, SigningKey

MARKER_ENV = "CHATCLUSTER_DATA"
"""Every process of a cluster has this in its environment: how leftovers of a killed run are told from others."""

SOCKET_PATH_MAX_BYTES = 100
"""Unix sockets' paths are limited to 104 (macOS) or 108 bytes."""


LEFTOVER_ENDS_S = 5.0
"""How long a killed process is waited for: it may hang in the kernel, on a disk that does not answer."""


class UpError(Exception):
    """The cluster cannot be started or reached; the message is one for a person."""


@contextlib.contextmanager
def starting(root: Path) -> Iterator[None]:
    """What the system refuses while a cluster is brought up is an UpError: a full disk, no more processes."""
    try:
        yield
    except OSError as error:
        what = error.filename or root
        raise UpError(f"the cluster cannot be started: {what}: {error.strerror or error}") from error


class Running(Struct, frozen=True):
    """Who holds the lock."""

    pid: int
    url: str


class DataDir:
    """Paths below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        """Only of the present run; emptied at start."""
        self.sessions = self.root / "sessions"
        self.secrets = self.root / "secrets.json"
        self.accounts = self.root / "accounts.json"
        self.names = self.root / "names.json"
        self.database = self.root / "chat.db"
        self._lock_file = self.root / "lock"
        self._socket_note = self.root / "control.path"
        self._pids = self.root / "pids"
        self._owner = self.root / "owner"
        self._lock_fd: int | None = None

    def create(self) -> None:
        """Raises UpError."""
        try:
            for folder in (self.root, self.logs, self.run, self.sessions):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UpError(f"cannot use {self.root} as data directory: {error.strerror}") from error

    # -- one cluster at a time

    def lock(self) -> None:
        """Raises UpError when another cluster is running here. The lock goes with the process."""
        try:
            fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UpError(f"cannot write in {self.root}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            other = self.running()
            who = f" (process {other.pid}, {other.url})" if other else ""
            raise UpError(
                f"a cluster is already running on {self.root}{who}. Use it, stop it with Ctrl-C there, "
                'or start another one with --data DIR --port N (by make: ARGS="--data DIR --port N")'
            ) from error
        self._lock_fd = fd

    def note_running(self, url: str) -> None:
        """Only with the lock held: what `running` tells others."""
        self._lock_file.write_bytes(msgspec.json.encode(Running(os.getpid(), url)))

    def running(self) -> Running | None:
        """What the present or last holder of the lock has written."""
        try:
            return msgspec.json.decode(self._lock_file.read_bytes(), type=Running)
        except (OSError, msgspec.DecodeError):
            return None

    def unlock(self) -> None:
        if self._lock_fd is not None:
            self._drop_socket()
            os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = None

    # -- leftovers

    def note_pid(self, pid: int) -> None:
        with self._pids.open("a") as file:
            file.write(f"{pid}\n")

    def clean(self) -> int:
        """Only with the lock held: ends what a killed run left behind and empties `run`. How many were left.
        Raises OSError."""
        left: list[int] = []
        if self._pids.exists():
            for line in self._pids.read_text().split():
                if line.isdigit() and self._is_ours(int(line)):
                    with contextlib.suppress(ProcessLookupError):  # it ended after it was looked at
                        os.kill(int(line), signal.SIGKILL)
                        left.append(int(line))
            self._wait_for(left)
            self._pids.unlink()
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        self._drop_socket()
        return len(left)

    def _wait_for(self, killed: list[int]) -> None:
        """Until they have let go of their ports and files. They are no children of this process."""
        deadline = time.monotonic() + LEFTOVER_ENDS_S
        while any(self._is_ours(pid) for pid in killed) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _is_ours(self, pid: int) -> bool:
        """Whether that process belongs to a cluster on this directory, and is not another with the same number."""
        mark = f"{MARKER_ENV}={self.root}"
        if sys.platform == "linux":
            try:
                return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                return False
        listed = subprocess.run(  # noqa: S603 - a fixed command and a number
            ["/bin/ps", "-E", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        return mark.encode() in listed.stdout

    # -- files

    def control_socket(self) -> Path:
        """Where the cluster that runs here listens, if one does."""
        path = self.root / "control.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
            return path
        try:
            return Path(self._socket_note.read_text())
        except OSError:
            return path

    def make_control_socket(self) -> Path:
        """Only with the lock held: the same for the cluster itself; in a folder below the system's temporary one when
        this one's path is too long for a socket. Raises OSError."""
        path = self.root / "control.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()
        # A new one for each run: that of an earlier one may have been tidied away, or be somebody else's by now.
        path = Path(tempfile.mkdtemp(prefix=f"chat-{digest[:6]}-")) / "control.sock"
        self._socket_note.write_text(str(path))
        return path

    def _drop_socket(self) -> None:
        """With the folder that was made for it."""
        path = self.control_socket()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            if path.parent != self.root:
                path.parent.rmdir()
            self._socket_note.unlink(missing_ok=True)

    def load_owner_id(self) -> str:
        """Tells this directory from all others. Made at the first start. Raises OSError."""
        try:
            return self._owner.read_text()
        except FileNotFoundError:
            made = secrets.token_hex(8)
            write_private(self._owner, made.encode())
            return made

    def load_secrets(self) -> SecretFile:
        """Made at the first start, then kept: tokens outlive restarts. Raises UpError, and OSError when it cannot be
        made."""
        try:
            return msgspec.json.decode(self.secrets.read_bytes(), type=SecretFile)
        except FileNotFoundError:
            made = SecretFile([SigningKey(f"k-{secrets.token_hex(4)}", secrets.token_urlsafe(48))])
            write_private(self.secrets, msgspec.json.encode(made))
            return made
        except (OSError, msgspec.DecodeError) as error:
            raise UpError(f"{self.secrets} cannot be read: {error}. Delete it to log everyone out") from error


def write_private(path: Path, data: bytes) -> None:
    """All or nothing, readable by the owner alone."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
