"""The OpenAPI 3.1 document, made from the operations and the types that serve them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from apipod.operation import Operation
from chatkernel.errors import CATALOGUE, Code
from chatkernel.problems import PROBLEM_TYPE, Problem

VERSION = "1"
REF_TEMPLATE = "#/components/schemas/{name}"

_COMMON = (
    Code.ORIGIN_NOT_ALLOWED,
    Code.RATE_LIMITED,
    Code.STORAGE_UNAVAILABLE,
    Code.STORAGE_DAMAGED,
    Code.INTERNAL,
)
_WITH_BODY = (Code.MALFORMED, Code.INVALID_FIELD, Code.TOO_LARGE)
_WITH_TOKEN = (
    Code.UNAUTHENTICATED,
    Code.TOKEN_EXPIRED,
    Code.DEVICE_REVOKED,
    Code.ACCOUNT_SUSPENDED,
    Code.ACCOUNT_ERASED,
)
_OPERATIONS_TAG = "operations"


def openapi(operations: Sequence[Operation], server_url: str) -> dict[str, Any]:
    """The document as plain data."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF_TEMPLATE)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schema_of, components
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ChatCluster",
            "version": VERSION,
            "description": "Everything by request and response. Sockets: see the AsyncAPI document.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Of this cluster, or with X-Device-Id of a configured issuer",
                }
            },
        },
    }


def _types(operations: Sequence[Operation]) -> list[Any]:
    found: dict[int, Any] = {id(Problem): Problem}
    for operation in operations:
        for kind in (
            operation.answer,
            operation.body,
            operation.query,
            operation.error_answer,
            *operation.other_answers.values(),
        ):
            if kind is not None and kind is not bytes:
                found[id(kind)] = kind
    return list(found.values())


def _operation(
    operation: Operation, schema_of: dict[int, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.public else [{"token": []}],
        "responses": _responses(operation, schema_of),
    }
    parameters = [*_path_parameters(operation), *_query_parameters(operation, components)]
    parameters += [_header_parameter(name) for name in operation.headers]
    if parameters:
        document["parameters"] = parameters
    if operation.body is not None:
        document["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": schema_of[id(operation.body)]}},
        }
    return document


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": 128}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]


def _query_parameters(operation: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[operation.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": property_schema}
        for name, property_schema in schema["properties"].items()
    ]


def _header_parameter(name: str) -> dict[str, Any]:
    return {
        "name": "-".join(part.capitalize() for part in name.split("-")),
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
    }


def _responses(operation: Operation, schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    answers = {operation.status: operation.answer, **operation.other_answers}
    for status, kind in answers.items():
        responses[str(status)] = {"description": operation.summary if kind else "Done"}
        if kind is not None:
            schema = {"type": "string", "format": "binary"} if kind is bytes else schema_of[id(kind)]
            responses[str(status)]["content"] = {operation.answer_type: {"schema": schema}}
    codes = [*_COMMON, *operation.errors]
    if operation.body is not None:
        codes += _WITH_BODY
    if operation.query.__struct_fields__:
        codes += (Code.MALFORMED, Code.INVALID_FIELD)
    if "{" in operation.path:
        codes.append(Code.NOT_FOUND)
    if not operation.public:
        codes += (*_WITH_TOKEN, Code.INVALID_FIELD)
    problem = schema_of[id(operation.error_answer or Problem)]
    for status in sorted({CATALOGUE[code].status for code in codes} - set(answers)):
        meanings = {code: CATALOGUE[code].meaning for code in codes if CATALOGUE[code].status == status}
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {meaning}" for code, meaning in meanings.items()),
            "content": {PROBLEM_TYPE: {"schema": problem}},
            **({"headers": {"Retry-After": _RETRY_AFTER}} if status in (429, 503) else {}),
        }
    return responses


_RETRY_AFTER = {
    "description": "Seconds; the document's `retry_after_s` is exact",
    "schema": {"type": "integer", "minimum": 1},
}
