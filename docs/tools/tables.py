"""Tables of docs/protocol.md, made from the types and the catalogue."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from apipod.resources import OPERATIONS
from chatkernel import protocol
from chatkernel.errors import CATALOGUE, RESUMABLE, Close
from chatkernel.protocol import ClientFrame, EventKind, Limits, ServerFrame
from chatoperator.spec import LimitsSpec
from docs.tools.notes import CLOSES, FIELDS

PARTS: tuple[type[Struct], ...] = (
    protocol.HistoryItem,
    protocol.ChannelHead,
    protocol.PresenceEntry,
    protocol.Position,
)
"""Structs inside frames that have a table of their own."""

EVENT_FIELDS: dict[EventKind, str] = {
    EventKind.CREATED: "`users` (all members, the creator first), `name` of a group",
    EventKind.MESSAGE: "`text`, `reply_to`, `metadata`",
    EventKind.EDIT: "`target_id`, `text`",
    EventKind.DELETE: "`target_id`",
    EventKind.REACTION: "`target_id`, `emoji`, `on`",
    EventKind.JOIN: "`users`",
    EventKind.LEAVE: "`users` (left, or were removed)",
    EventKind.BAN: "`users`",
    EventKind.ROLE: "`users`, `role`",
    EventKind.RENAME: "`name`",
}


def tables() -> dict[str, str]:
    """Block name to Markdown."""
    made = {
        "errors": error_table(),
        "close-codes": close_table(),
        "limits": limit_table(),
        "event-kinds": kind_table(),
        "http": http_table(),
        "client-frames": frame_list(get_args(ClientFrame)),
        "server-frames": frame_list(get_args(ServerFrame)),
    }
    for struct in structs():
        made[f"fields.{struct.__name__}"] = field_table(struct)
    return made


def structs() -> tuple[type[Struct], ...]:
    return (*get_args(ClientFrame), *get_args(ServerFrame), *PARTS)


def rows_of(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def error_table() -> str:
    rows = [
        (f"`{code}`", str(spec.status), "yes" if spec.retryable else "no", spec.meaning)
        for code, spec in CATALOGUE.items()
    ]
    return rows_of(("code", "HTTP", "retryable", "meaning"), rows)


def close_table() -> str:
    rows = [
        (str(close.value), close.name.lower(), "yes" if close in RESUMABLE else "no", CLOSES[close])
        for close in Close
    ]
    return rows_of(("code", "name", "reconnect", "why"), rows)


def limit_table() -> str:
    told = {field.encode_name: _description(field.type) for field in msgspec.structs.fields(LimitsSpec)}
    rows = []
    for field in msgspec.structs.fields(Limits):
        camel = _camel(field.name)
        rows.append((f"`{field.name}`", _number(field.default), told[camel], f"`limits.{camel}`"))
    return rows_of(("limit", "default", "of what", "setting"), rows)


def kind_table() -> str:
    return rows_of(
        ("kind", "fields beside the common ones"), [(f"`{k}`", EVENT_FIELDS[k]) for k in EventKind]
    )


def http_table() -> str:
    rows = [
        (f"`{operation.method}`", f"`{operation.path}`", operation.summary)
        for operation in OPERATIONS
        if operation.path.startswith("/v1/")
    ]
    return rows_of(("", "path", ""), rows)


def frame_list(frames: Iterable[type[Struct]]) -> str:
    rows = []
    for frame in frames:
        tag = str(frame.__struct_config__.tag)
        rows.append((f"[`{tag}`](#frame-{frame.__name__.lower()})", _sentence(frame)))
    return rows_of(("type", ""), rows)


def field_table(struct: type[Struct]) -> str:
    hints = get_type_hints(struct, include_extras=True)
    docs = field_docs().get(struct.__name__, {})
    rows = []
    for field in msgspec.structs.fields(struct):
        words = FIELDS.get(f"{struct.__name__}.{field.name}") or docs.get(field.name, "")
        rows.append((f"`{field.name}`", type_text(hints[field.name]), _default(field), words))
    return rows_of(("field", "type", "if absent", ""), rows)


def field_docs() -> dict[str, dict[str, str]]:
    """Class to field to the docstring that stands below the field in chatkernel/protocol.py."""
    tree = ast.parse(Path(inspect.getfile(protocol)).read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                words = " ".join(str(below.value.value).split()).rstrip(".")
                found.setdefault(node.name, {})[field.target.id] = words
    return found


def type_text(hint: Any) -> str:
    """A type for people, with its bounds."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(args[0]) + _bounds(args[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(arg) for arg in args if arg is not type(None))
    if origin is list:
        return f"array of {type_text(args[0])}"
    if origin is dict:
        return "object" if args[1] is Any else f"object of {type_text(args[1])}"
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint.__name__ if hint in structs() or hint is Limits else "array"
    if isinstance(hint, type) and hint in _NAMES:
        return _NAMES[hint]
    return " ".join(f"`{value}`" for value in hint)


_NAMES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _bounds(metas: Iterable[Any]) -> str:
    parts = []
    for meta in metas:
        if not isinstance(meta, Meta):
            continue
        if meta.max_length is not None:
            parts.append(f"{meta.min_length or 0}..{meta.max_length}")
        if meta.le is not None:
            parts.append(f"{meta.ge}..{'2^53-1' if meta.le == (1 << 53) - 1 else meta.le}")
    return f", {', '.join(parts)}" if parts else ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
    return "" if field.default is None else f"`{msgspec.json.encode(field.default).decode()}`"


def _sentence(frame: type[Struct]) -> str:
    doc = inspect.cleandoc(frame.__doc__ or "")
    if not doc or doc.startswith(frame.__name__ + "("):
        return _SENTENCES[frame.__name__]
    return doc.partition("\n\n")[0].replace("\n", " ").rstrip(".")


_SENTENCES: dict[str, str] = {
    "Send": "A message",
    "Edit": "New text for a message of mine",
    "Delete": "Take a message away",
    "React": "Set or take back a reaction",
    "Typing": "I am typing, or have stopped",
    "Ping": "I am here; answered by `pong`",
    "Welcome": "The answer to a good `hello`; pages and the `ack` follow",
    "Error": "The one negative answer",
    "TypingNotice": "Somebody is typing, or has stopped",
    "Presence": "Who is online",
    "Notice": "Something of yours has changed: read it again by HTTP",
}


def _description(hint: Any) -> str:
    return next(
        (arg.description for arg in get_args(hint)[1:] if isinstance(arg, Meta) and arg.description), ""
    )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
