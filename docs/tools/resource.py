"""The fields of a resource as rows for people: path, type with bounds, default, words. From the types alone."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from chatoperator import structural


class Row(Struct, frozen=True):
    """`default` is Markdown, "" for none; `is_part` is a field that only holds others."""

    path: str
    type: str
    default: str
    words: str
    is_part: bool


def fields_of(path: str, struct: type[Struct]) -> Iterator[Row]:
    """Depth first, in the order of the types."""
    yield from _fields(path, struct_type(struct))


def _fields(path: str, struct: inspect.StructType) -> Iterator[Row]:
    for field in struct.fields:
        name = f"{path}.{field.encode_name}" if path else field.encode_name
        kind, words = _bare(field.type)
        inner = kind.item_type if isinstance(kind, inspect.ListType) else kind
        if isinstance(kind, inspect.StructType) and not words:
            words = words_of(kind)
        yield Row(name, _type(kind), _default(field), words, isinstance(kind, inspect.StructType))
        inner, _ = _bare(inner)
        if isinstance(inner, inspect.StructType):
            yield from _fields(f"{name}[]" if isinstance(kind, inspect.ListType) else name, inner)


def struct_type(struct: type[Struct]) -> inspect.StructType:
    kind = inspect.type_info(struct)
    if not isinstance(kind, inspect.StructType):
        raise TypeError(f"{struct!r} is no struct")
    return kind


def words_of(struct: inspect.StructType) -> str:
    """Its docstring, without the full stop at its end."""
    return structural.words_of(struct).removesuffix(".")


def _bare(kind: inspect.Type) -> tuple[inspect.Type, str]:
    """Without what wraps it, None and descriptions; and the outermost description."""
    words = ""
    while True:
        if isinstance(kind, inspect.Metadata):
            words = words or str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
            if len(members) != 1:
                return kind, words
            kind = members[0]
        else:
            return kind, words


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if value is None or isinstance(value, Struct) or value in ("", [], {}):
        return ""
    text = msgspec.json.encode(value).decode()
    return f"`{text.removesuffix('.0')}`"


def _type(kind: inspect.Type) -> str:
    kind, _ = _bare(kind)
    if isinstance(kind, inspect.StructType | inspect.AnyType):
        return "object"
    if isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.AnyType):
        return "object"
    if isinstance(kind, inspect.DictType):
        return f"up to {kind.max_length} keys with {_type(kind.value_type)}"
    if isinstance(kind, inspect.ListType):
        return f"list of {_type(kind.item_type)}, {kind.max_length} at most"
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f"`{value}`" if value else "empty" for value in kind.values)
    if isinstance(kind, inspect.EnumType):
        return ", ".join(f"`{member.value}`" for member in kind.cls)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_type(member) for member in kind.types)
    if isinstance(kind, inspect.BoolType):
        return "`true` or `false`"
    if isinstance(kind, inspect.StrType):
        return f"text, up to {kind.max_length} characters"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number(kind)
    raise TypeError(f"no words for {kind!r}")


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    noun = "integer" if isinstance(kind, inspect.IntType) else "number"
    low = f"{kind.ge}" if kind.ge is not None else f"above {kind.gt}"
    return f"{noun}, {low} to {kind.le}"
