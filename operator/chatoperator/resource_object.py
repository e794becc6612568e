"""Reads a `ChatCluster` as the API server has it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from chatoperator.rules import Platform, broken_rules
from chatoperator.spec import API_VERSION, KIND, ChatCluster, Metadata, Spec


class ResourceError(Exception):
    """The resource cannot be carried out. Its schema lets none such in, but may have been another when it came in.

    `str()` is one sentence per problem: `spec.field text`."""


def cluster_of(resource: Mapping[str, Any]) -> ChatCluster:
    """Fields that this version does not know are left out: a newer schema adds its defaults to every resource, and
    the operator of the version before must be able to go on meanwhile. Raises ResourceError."""
    meta = resource["metadata"]
    spec = _known(resource.get("spec") or {}, _spec_type())
    parts = ("name", "namespace", "labels", "annotations")
    try:
        cluster = ChatCluster(
            api_version=API_VERSION,
            kind=KIND,
            metadata=msgspec.convert({part: meta[part] for part in parts if meta.get(part)}, Metadata),
            spec=msgspec.convert(spec, Spec),
        )
    except msgspec.ValidationError as error:
        raise ResourceError(str(error).replace("`$.", "`spec.")) from error
    broken = broken_rules(cluster, Platform.KUBERNETES)
    if broken:
        raise ResourceError("; ".join(f"{path} {text}" for path, text in broken))
    return cluster


@cache
def _spec_type() -> inspect.Type:
    return inspect.type_info(Spec)


def _known(value: Any, kind: inspect.Type) -> Any:
    """Without fields that the types do not have, and without nulls, which are what absent is."""
    if isinstance(kind, inspect.Metadata):
        return _known(value, kind.type)
    if isinstance(kind, inspect.UnionType):
        structs = [member for member in kind.types if isinstance(member, inspect.StructType)]
        return _known(value, structs[0]) if structs else value
    if isinstance(kind, inspect.StructType) and isinstance(value, Mapping):
        return {
            field.encode_name: _known(value[field.encode_name], field.type)
            for field in kind.fields
            if value.get(field.encode_name) is not None
        }
    if isinstance(kind, inspect.ListType) and isinstance(value, list):
        return [_known(item, kind.item_type) for item in value]
    return value
