"""The process that pods are forked from: it has imported what services need, so a pod is there in a tenth of a
second instead of seconds of importing. `prefork.py` is the supervisor's side.

Run as `python -m chatoperator.forker CONTROL_FD MODULE...`. Single-threaded and without an event loop, so that a
fork copies nothing that runs. One JSON object a line comes in and goes out over the control socket.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys

import msgspec
from msgspec import Struct

from chatkernel.lifeline import LISTEN_FD_ENV, die_with_parent


class Birth(Struct, frozen=True):
    """Run `module.main()` with this environment; the output goes to the end of the file `log`."""

    id: int
    module: str
    env: dict[str, str]
    log: str


class Notice(Struct, frozen=True, omit_defaults=True):
    """`born`: the id of a Birth and its pid. `ended`: a pid and its exit code, negative for a signal."""

    born: tuple[int, int] | None = None
    ended: tuple[int, int] | None = None


_births = msgspec.json.Decoder(Birth)
_encode = msgspec.json.Encoder().encode


def preload(modules: list[str]) -> None:
    """A module that cannot be imported fails in the pod that needs it, with its own log."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


def serve(control: socket.socket) -> str | None:
    """Forks until the supervisor is gone (None). Returns in each child, with the module to run."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    _reap(control)
                    continue
                data = control.recv(65536)
                if not data:
                    return None
                *lines, waiting = (waiting + data).split(b"\n")
                for line in lines:
                    birth = _births.decode(line)
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for fd in (wake_read, wake_write):
                            os.close(fd)
                        control.close()
                        _become(birth)
                        return birth.module
                    control.sendall(_encode(Notice(born=(birth.id, pid))) + b"\n")


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            control.sendall(_encode(Notice(ended=(pid, os.waitstatus_to_exitcode(status)))) + b"\n")


def _become(birth: Birth) -> None:
    """What starting a new process would have done: its own session, output, environment and arguments."""
    os.setsid()
    output = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd in (1, 2):
        os.dup2(output, fd)
    os.close(output)
    shared = os.environ.get(LISTEN_FD_ENV, "")
    os.environ.clear()
    os.environ.update(birth.env)
    if shared.isdigit() and LISTEN_FD_ENV not in birth.env:
        os.close(int(shared))
    sys.argv = [birth.module]


def main() -> None:
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # the supervisor ends it, after its children
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    preload(sys.argv[2:])
    try:
        module = serve(control)
    except OSError:
        module = None
    if module is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        importlib.import_module(module).main()


if __name__ == "__main__":
    main()
