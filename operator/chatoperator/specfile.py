"""Reads a `ChatCluster` from YAML; what is wrong is told with file, line, field, and what is allowed.

The walk follows the types, not the document, so nothing that a file contains (anchors that point at
themselves, deep nesting) can make it run for long.
"""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct, inspect

from chatoperator.rules import Platform, broken_rules
from chatoperator.spec import ChatCluster

FILE_MAX_BYTES = 256 * 1024
FREE_MAX_DEPTH = 20
FREE_MAX_NODES = 10_000
FREE_SCALAR = inspect.type_info(str | int | float | bool | None)
"""What an object that is Kubernetes' to check is made of in the end."""


class Problem(Struct, frozen=True):
    """`line` counts from 1; `field` is a dotted path, empty for the document itself."""

    line: int
    field: str
    text: str


class SpecError(Exception):
    """The file is refused. One line of `str()` per problem: `file:line: field: what is wrong`."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name, self.problems = name, problems
        super().__init__(
            "\n".join(
                f"{name}:{problem.line}: {problem.field + ': ' if problem.field else ''}{problem.text}"
                for problem in problems
            )
        )


def load_cluster(path: Path) -> ChatCluster:
    """Raises SpecError, also for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(str(path), [Problem(1, "", error.strerror or str(error))]) from error
    return parse_cluster(raw, str(path))


def parse_cluster(raw: bytes, name: str, where: Platform = Platform.LAPTOP) -> ChatCluster:
    """For the platform that it is to run on. Raises SpecError."""
    if len(raw) > FILE_MAX_BYTES:
        raise SpecError(name, [Problem(1, "", f"larger than {FILE_MAX_BYTES} bytes")])
    root = _compose(raw, name)
    checker = _Checker()
    value = checker.check(root, inspect.type_info(ChatCluster), "")
    if not checker.problems:
        cluster = msgspec.convert(value, ChatCluster)
        checker.problems += [
            Problem(checker.line_of(path), path, text) for path, text in broken_rules(cluster, where)
        ]
    if checker.problems:
        raise SpecError(name, sorted(checker.problems, key=lambda problem: problem.line))
    return cluster


def _compose(raw: bytes, name: str) -> yaml.Node:
    try:
        root = yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpecError(name, [Problem(mark.line + 1 if mark else 1, "", f"not YAML: {text}")]) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(name, [Problem(1, "", f"not YAML: {text}")]) from error
    if root is None:
        raise SpecError(name, [Problem(1, "", "is empty: expected a ChatCluster")])
    return root


class _Checker:
    """Collects every problem, not only the first, and builds the plain value along the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._free_nodes, self._has_too_much = 0, False
        self._lines: dict[str, int] = {}
        self._scalars = yaml.SafeLoader("")

    def line_of(self, path: str) -> int:
        """The line of the nearest ancestor of `path` that the file has."""
        while path not in self._lines and path:
            path = path.rpartition(".")[0]
        return self._lines.get(path, 1)

    def _refuse(self, node: yaml.Node, path: str, text: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, path, text))

    def check(self, node: yaml.Node, kind: inspect.Type, path: str) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        if isinstance(kind, inspect.UnionType):
            members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
            if len(members) < len(kind.types) and node.tag == "tag:yaml.org,2002:null":
                return None
            return self.check(node, members[0], path) if len(members) == 1 else self._leaf(node, kind, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, inspect.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, inspect.ListType):
            return self._list(node, kind, path)
        if isinstance(kind, inspect.AnyType):
            return self._anything(node, path, 1)
        return self._leaf(node, kind, path)

    def _entries(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node, path, f"expected a mapping, got {_what(node)}")
            return []
        seen: dict[str, int] = {}
        entries: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, path, "a key must be plain text")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in seen:
                self._refuse(key_node, _join(path, key), f"given twice (first in line {seen[key]})")
                continue
            seen[key] = line
            entries.append((key, key_node, value_node))
        return entries

    def _struct(self, node: yaml.Node, kind: inspect.StructType, path: str) -> dict[str, Any]:
        fields = {field.encode_name: field for field in kind.fields}
        value: dict[str, Any] = {}
        for key, key_node, value_node in self._entries(node, path):
            if key not in fields:
                self._refuse(key_node, _join(path, key), _unknown(key, list(fields)))
            else:
                self._lines[_join(path, key)] = key_node.start_mark.line + 1
                value[key] = self.check(value_node, fields[key].type, _join(path, key))
        if isinstance(node, yaml.MappingNode):
            for name, field in fields.items():
                if field.required and name not in value:
                    self._refuse(node, _join(path, name), f"is missing: {_allowed(field.type)}")
        return value

    def _dict(self, node: yaml.Node, kind: inspect.DictType, path: str) -> dict[str, Any]:
        entries = self._entries(node, path)
        if kind.max_length is not None and len(entries) > kind.max_length:
            self._refuse(node, path, f"has {len(entries)} entries: {kind.max_length} are allowed")
            return {}
        for key, key_node, _ in entries:
            if not _fits(key, kind.key_type):
                self._refuse(key_node, path, f"{_allowed(kind.key_type)} as a key, got {_shown(key_node)}")
        return {key: self.check(value, kind.value_type, _join(path, key)) for key, _, value in entries}

    def _anything(self, node: yaml.Node, path: str, depth: int) -> Any:
        """What is Kubernetes' to check. Bounded in all, since anchors may make much of little, and without end."""
        self._free_nodes += 1
        if depth > FREE_MAX_DEPTH or self._free_nodes > FREE_MAX_NODES:
            if not self._has_too_much:
                self._refuse(node, path, "is nested too deeply, or too large")
            self._has_too_much = True
            return None
        if isinstance(node, yaml.MappingNode):
            return {
                key: self._anything(value, _join(path, key), depth + 1)
                for key, _, value in self._entries(node, path)
            }
        if isinstance(node, yaml.SequenceNode):
            return [
                self._anything(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)
            ]
        return self._leaf(node, FREE_SCALAR, path)

    def _list(self, node: yaml.Node, kind: inspect.ListType, path: str) -> list[Any]:
        if not isinstance(node, yaml.SequenceNode):
            self._refuse(node, path, f"expected a list, got {_what(node)}")
            return []
        if kind.max_length is not None and len(node.value) > kind.max_length:
            self._refuse(node, path, f"has {len(node.value)} entries: {kind.max_length} are allowed")
            return []
        return [self.check(item, kind.item_type, f"{path}[{index}]") for index, item in enumerate(node.value)]

    def _leaf(self, node: yaml.Node, kind: inspect.Type, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, path, f"{_allowed(kind)}, got {_what(node)}")
            return None
        try:
            value = self._scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError):
            value = node.value
        if not _fits(value, kind):
            self._refuse(node, path, f"{_allowed(kind)}, got {_shown(node)}")
        return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _what(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _shown(node)


def _shown(node: yaml.Node) -> str:
    text = str(node.value)
    if node.tag == "tag:yaml.org,2002:null":
        return "nothing"
    quoted = text if len(text) <= 60 else text[:57] + "..."
    return f'"{quoted}"' if node.tag == "tag:yaml.org,2002:str" else quoted


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [
        name for name in known if name.lower() == key.lower()
    ]
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown field: {hint}Allowed: {', '.join(sorted(known))}"


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.Metadata):
        return _fits(value, kind.type)
    if isinstance(kind, inspect.UnionType):
        return any(_fits(value, member) for member in kind.types)
    if isinstance(kind, inspect.NoneType):
        return value is None
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    if isinstance(kind, inspect.StrType):
        if not isinstance(value, str):
            return False
        return _matches(value, kind)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and not isinstance(value, bool) and _within(value, kind)
    if isinstance(kind, inspect.FloatType):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and _within(value, kind)
    raise TypeError(f"no check for {kind!r}")


def _matches(value: str, kind: inspect.StrType) -> bool:
    return (
        (kind.min_length is None or len(value) >= kind.min_length)
        and (kind.max_length is None or len(value) <= kind.max_length)
        and (kind.pattern is None or re.search(kind.pattern, value) is not None)
        and "\0" not in value
    )


def _within(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _allowed(kind: inspect.Type) -> str:
    """What a field takes, as a sentence for a person."""
    if isinstance(kind, inspect.Metadata):
        return _allowed(kind.type)
    if isinstance(kind, inspect.BoolType | inspect.LiteralType):
        values = kind.values if isinstance(kind, inspect.LiteralType) else ("true", "false")
        return "expected " + " or ".join(str(value) for value in values)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _allowed_number(kind)
    if isinstance(kind, inspect.StrType):
        return _allowed_text(kind)
    if isinstance(kind, inspect.UnionType):
        return " or ".join([_allowed(kind.types[0]), *(_noun(member) for member in kind.types[1:])])
    fields = kind.fields if isinstance(kind, inspect.StructType) else ()
    return "expected a mapping with " + ", ".join(field.encode_name for field in fields)


def _noun(kind: inspect.Type) -> str:
    return "nothing" if isinstance(kind, inspect.NoneType) else _allowed(kind).removeprefix("expected ")


def _allowed_number(kind: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
    low = f"from {kind.ge:g}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else ""
    high = f"to {kind.le:,}".replace(",", " ") if kind.le is not None else ""
    return " ".join(part for part in ("expected", noun, low, high) if part)


def _allowed_text(kind: inspect.StrType) -> str:
    parts = []
    if kind.max_length is not None:
        parts.append(f"of {kind.min_length or 0} to {kind.max_length} characters")
    if kind.pattern is not None:
        parts.append(f"matching {kind.pattern}")
    return " ".join(["expected text", *parts])
