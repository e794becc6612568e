"""What a person sees of a laptop cluster: a live table on a terminal, plain lines elsewhere, JSON when asked."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chatkernel.logs import JsonFormatter
from chatoperator.logfiles import LOG_MAX_BYTES
from chatoperator.outlet import Outlet

COLUMNS = ("pod", "phase", "connections", "messages/s", "restarts", "port", "pid", "revision")
_SHOWN = ("reason", "took_ms", "exit_code", "field", "file", "problem", "error", "log", "for_s", "pods")
FINISH_S = 0.5
"""How long the last lines are given to get out."""
_COLORS = {"ready": "green", "starting": "yellow", "draining": "cyan", "leaving": "cyan", "stopping": "dim"}


class LineHandler(logging.Handler):
    """One line a record, for people: time, pod, what, and the details."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        details = ", ".join(_detail(name, getattr(record, name)) for name in _SHOWN if hasattr(record, name))
        who = getattr(record, "of", "cluster")
        text = f"{at}  {who:<10} {record.getMessage()}{': ' + details if details else ''}"
        self._write(text)


@contextlib.contextmanager
def _logs(name: str, level: int, handlers: Sequence[logging.Handler]) -> Iterator[None]:
    """What is logged under that name goes to these handlers, and nowhere else."""
    logger = logging.getLogger(name)
    before = (logger.level, logger.propagate)
    logger.setLevel(level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


class LogFile(RotatingFileHandler):
    """A full disk costs lines of the log and nothing else: people see them on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _detail(name: str, value: object) -> str:
    return str(value) if name in ("reason", "problem", "error", "file", "field") else f"{name} {value}"


class Display:
    """Use as a context; `say` and log records appear above the table, `show` renews it. Nothing waits for whoever
    reads."""

    def __init__(self, operator_log: Path, *, as_json: bool = False, out: TextIO | None = None) -> None:
        file: TextIO | None = out or sys.stdout  # None when a program was started with its output closed
        self._out = Outlet(-1, "utf-8") if file is None else Outlet(file.fileno(), file.encoding)
        self._json = as_json
        self._console = Console(file=cast("TextIO", self._out), highlight=False)
        self._live = self._console.is_terminal and not as_json
        self._table: Live | None = None
        self._operator_log = operator_log

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Display]:
        file = self._file_handler()
        own: list[logging.Handler] = [file] if self._json else [file, LineHandler(self.say)]
        try:
            # What the kernel has to say in this process is for the file alone.
            with _logs("chatoperator", logging.INFO, own), _logs("chatkernel", logging.WARNING, [file]):
                try:
                    yield self
                finally:
                    self.end_table()
        finally:
            for handler in own:
                handler.close()
            self._out.finish(FINISH_S)

    def _file_handler(self) -> logging.Handler:
        """Raises OSError."""
        handler = LogFile(self._operator_log, maxBytes=LOG_MAX_BYTES, backupCount=1, encoding="utf-8")
        handler.setFormatter(JsonFormatter("chatoperator", "operator"))
        return handler

    def say(self, text: str) -> None:
        if self._live:
            self._console.print(Text(text))
        else:
            self._out.write(text + "\n")

    def say_json(self, event: str, fields: dict[str, Any]) -> None:
        if self._json:
            self.say(msgspec.json.encode({"event": event, **fields}).decode())

    def welcome(self, status: dict[str, Any], lines: list[str]) -> None:
        if self._json:
            self.say_json("ready", status)
        else:
            self.say("\n" + "\n".join(lines) + "\n")

    def show(self, status: dict[str, Any]) -> None:
        """The table of now. Nothing without a terminal, or while it does not take what it was given before."""
        if not self._live or self._out.is_behind:
            return
        if self._table is None:
            self._table = Live(console=self._console, auto_refresh=False)
            self._table.start()
        self._table.update(render(status), refresh=True)

    def end_table(self) -> None:
        if self._table is not None:
            self._table.stop()
            self._table = None


def render(status: dict[str, Any]) -> Group:
    """A status, as `chatctl status` and `chatctl up` show it."""
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:7]:
        column.justify = "right"
    for pod in status["pods"]:
        phase = pod["phase"]
        is_chat = pod["kind"] == "chat"
        table.add_row(
            pod["name"],
            Text(phase, style=_COLORS.get(phase, "red")),
            _number(pod["connections"]) if is_chat else "",
            f"{pod['messages_per_s']:.1f}" if is_chat else "",
            str(pod["restarts"]),
            str(pod["port"]),
            str(pod["pid"]),
            pod["revision"],
        )
    redis, online = status["redis"], status["presence"]["online"]
    head = Text.assemble(
        (status["cluster"], "bold"), f"  {status['url']}  ", (status["phase"], "bold"),
        f"  online {_number(online)}  redis {redis['state']}",
        f" ({redis['restarts']} restarts)" if redis["restarts"] else "",
    )  # fmt: skip
    return Group(head, table)


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)
