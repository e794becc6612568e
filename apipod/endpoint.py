"""The shell round every operation: throttle, authenticate, decode, call, encode. Raw ASGI, for speed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from apipod.bodies import check_path_parameters, decode_json, decode_query
from apipod.operation import Answer, Call, NoQuery, Operation
from apipod.services import Services
from chatkernel.access_tokens import Caller
from chatkernel.errors import ChatError
from chatkernel.httpbody import read_body
from chatkernel.httplayer import MethodNotAllowed, header, respond
from chatkernel.problems import Headers

_encoder = msgspec.json.Encoder()
_NO_QUERY = NoQuery()
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")


class Endpoint:
    """All operations of one path, as an ASGI application. Raises ChatError, which the outer layer answers."""

    def __init__(self, services: Services, operations: Sequence[Operation]) -> None:
        self._services = services
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            operation.method: msgspec.json.Decoder(operation.body)
            for operation in operations
            if operation.body is not None
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._by_method.get(scope["method"])
        if operation is None:
            await self._other_method(scope, send)
            return
        if not operation.throttled:
            await self._perform(operation, scope, receive, send)
            return
        with self._services.gate.passed():
            await self._perform(operation, scope, receive, send)

    async def _perform(self, operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        address = client_address(scope)
        person = await self._admit(operation, scope, address)
        body = None
        if operation.body is not None:
            limits = services.live.limits
            data = await read_body(scope, receive, limits)
            if operation.body_optional and not data:
                data = b"{}"
            # The document around a message's metadata is one level.
            body = decode_json(self._decoders[operation.method], data, limits.nesting_max_depth + 1)
        path = scope.get("path_params") or {}
        if path:
            check_path_parameters(path)
        query: Any = _NO_QUERY
        if operation.query is not NoQuery:
            query = decode_query(operation.query, scope["query_string"])
        headers = {name: _header_text(scope, name) for name in operation.headers} if operation.headers else {}
        answer = await operation.handler(services, Call(path, body, query, address, headers, person))
        await self._answer(operation, answer, send)

    async def _admit(self, operation: Operation, scope: Scope, address: str) -> Caller | None:
        services = self._services
        if operation.public:
            if operation.throttled:
                await services.throttle.check(f"address:{address}")
            return None
        try:
            caller = await services.authenticator.caller(scope)
        except ChatError as error:
            if error.status < 500:
                await services.throttle.check(f"address:{address}")
            raise
        # Devices are easily had, with an issuer's token by a header: so a person has a limit as well.
        await services.throttle.check(f"device:{caller.device_id}")
        await services.user_throttle.check(caller.user_id)
        return caller

    async def _other_method(self, scope: Scope, send: Send) -> None:
        allowed = sorted({*self._by_method, "OPTIONS"})
        if scope["method"] != "OPTIONS":
            raise MethodNotAllowed(allowed)
        await respond(send, 204, b"", [(b"allow", ", ".join(allowed).encode())])

    async def _answer(self, operation: Operation, answer: Any, send: Send) -> None:
        status, extra = operation.status, None
        if isinstance(answer, Answer):
            status, extra, answer = answer.status, answer.headers, answer.content
        headers: Headers = [_NO_STORE]
        if extra:
            headers.extend((name.encode(), value.encode()) for name, value in extra.items())
        if answer is None:
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        if isinstance(answer, AsyncIterator):
            await _send_pieces(send, status, answer, headers)
            return
        if extra is None or "content-type" not in extra:
            headers.append(_JSON)
        await respond(send, status, answer if isinstance(answer, bytes) else _encoder.encode(answer), headers)


async def _send_pieces(send: Send, status: int, pieces: AsyncIterator[bytes], headers: Headers) -> None:
    """The first before the head: what cannot be begun is answered as an error."""
    first = await anext(pieces, b"")
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def client_address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _header_text(scope: Scope, name: str) -> str:
    value = header(scope, name.encode())
    return "" if value is None else value.decode("latin-1")
