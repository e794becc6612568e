"""From a type to the schema that the API server checks objects by: structural, whole, without references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Any, TypeAlias

import msgspec
from msgspec import NODEFAULT, Struct, inspect

Schema: TypeAlias = dict[str, Any]

FREE: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
INT32_MAX = (1 << 31) - 1


def schema_of(
    struct: type[Struct], *, is_status: bool = False, validations: Mapping[str, list[Schema]] | None = None
) -> Schema:
    """`is_status`: null stands for what is not known, and nothing is filled in. `validations`: CEL rules by the
    dotted path of their object, "" for the struct itself. Raises LookupError when there is none at such a path."""
    left = dict(validations or {})
    made = _Maker(is_status, lambda path: left.pop(path, None)).schema(inspect.type_info(struct), "")
    if left:
        raise LookupError(f"no objects at {', '.join(left)}")
    return made


def words_of(struct: inspect.StructType) -> str:
    """The docstring of a type, in one line."""
    return " ".join(cleandoc(struct.cls.__doc__ or "").split())


def sentence(words: str) -> str:
    """Descriptions are written without the full stop at their end."""
    return words if not words or words.endswith(".") else f"{words}."


class _Maker:
    def __init__(self, is_status: bool, validations: Callable[[str], list[Schema] | None]) -> None:
        self._is_status, self._validations = is_status, validations

    def schema(self, kind: inspect.Type, path: str) -> Schema:
        if isinstance(kind, inspect.Metadata):
            given = dict(kind.extra_json_schema or {})
            words = given.pop("description", "")
            made = {**self.schema(kind.type, path), **given}
            return {"description": sentence(words), **_without(made, "description")} if words else made
        if isinstance(kind, inspect.UnionType):
            return self._union(kind, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(kind, path)
        if isinstance(kind, inspect.DictType):
            return self._dict(kind, path)
        if isinstance(kind, inspect.ListType):
            items = self.schema(kind.item_type, f"{path}[]")
            return _some(type="array", items=items, minItems=kind.min_length, maxItems=kind.max_length)
        return _leaf(kind)

    def _union(self, kind: inspect.UnionType, path: str) -> Schema:
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(members) == 1:
            made = self.schema(members[0], path)
            return {**made, "nullable": True} if self._is_status else made
        text = next(member for member in members if isinstance(member, inspect.StrType))
        either: Schema = {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
        }
        return {**either, **_some(maxLength=text.max_length, pattern=text.pattern)}

    def _struct(self, kind: inspect.StructType, path: str) -> Schema:
        properties = {}
        for field in kind.fields:
            made = self.schema(field.type, f"{path}.{field.encode_name}" if path else field.encode_name)
            default = None if self._is_status else _default(field, whole="x-kubernetes-validations" in made)
            if not self._is_status:
                made = _told(made, default)
            properties[field.encode_name] = made if default is None else {**made, "default": default}
        return _some(
            description=words_of(kind),
            type="object",
            properties=properties or None,
            required=[field.encode_name for field in kind.fields if field.required] or None,
        ) | _some(**{"x-kubernetes-validations": self._validations(path)})

    def _dict(self, kind: inspect.DictType, path: str) -> Schema:
        if isinstance(kind.value_type, inspect.AnyType):
            return FREE | _some(maxProperties=kind.max_length)
        values = self.schema(kind.value_type, f"{path}.*")
        return _some(type="object", additionalProperties=values, maxProperties=kind.max_length)


def _leaf(kind: inspect.Type) -> Schema:
    if isinstance(kind, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(kind, inspect.EnumType):
        # Not an enum there: a newer operator's word must fit into an older schema.
        return {"type": "string", "maxLength": 64}
    if isinstance(kind, inspect.LiteralType):
        return {"type": "string", "enum": list(kind.values)}
    if isinstance(kind, inspect.StrType):
        return _some(
            type="string", minLength=kind.min_length, maxLength=kind.max_length, pattern=kind.pattern
        )
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number(kind)
    raise TypeError(f"no schema for {kind!r}")


def _number(kind: inspect.IntType | inspect.FloatType) -> Schema:
    whole = isinstance(kind, inspect.IntType)
    above = kind.ge is None and kind.gt is not None
    return _some(
        type="integer" if whole else "number",
        format="int64" if whole and (kind.le is None or kind.le > INT32_MAX) else None,
        minimum=kind.gt if above else kind.ge,
        exclusiveMinimum=True if above else None,
        maximum=kind.le,
    )


def _default(field: inspect.Field, whole: bool) -> Any:
    """None: there is none, or it is empty, which is what absent means.

    `whole`: with what is inside, since the API server holds a default to the rules as it is. Otherwise {} will do:
    the fields in it have defaults of their own."""
    value = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if value is NODEFAULT:
        return None
    if isinstance(value, Struct) and not whole:
        return {}
    return _plain(value)


def _told(made: Schema, default: Any) -> Schema:
    """With bounds and default in words, too: `kubectl explain` shows nothing but those."""
    words = [made.get("description", "")]
    if "maximum" in made:
        above = "Above " if "exclusiveMinimum" in made else ""
        words.append(f"{above}{made['minimum']} to {made['maximum']}.")
    if default is not None and not isinstance(default, dict):
        words.append(f"Default: {msgspec.json.encode(default).decode()}.")
    return {**made, "description": " ".join(words)}


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        fields = msgspec.structs.fields(value)
        inside = {field.encode_name: _plain(getattr(value, field.name)) for field in fields}
        return {name: each for name, each in inside.items() if each is not None}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if value in ("", [], {}) else value


def _some(**given: Any) -> Schema:
    return {name: value for name, value in given.items() if value is not None}


def _without(schema: Schema, name: str) -> Schema:
    return {each: value for each, value in schema.items() if each != name}
