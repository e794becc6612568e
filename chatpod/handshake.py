"""What the WebSocket library itself refuses in a handshake, as problem documents like every other refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.http11 import Response

from chatkernel.errors import ChatError, Code
from chatkernel.problems import PROBLEM_TYPE, encode_problem
from chatpod.websocket import PodWebSocketProtocol

_CODES = {403: Code.FORBIDDEN, 500: Code.INTERNAL}


class HandshakeProtocol(PodWebSocketProtocol):
    """The pod's WebSocket protocol, in whose handshake nothing is answered in plain text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        handshake: Any = self.conn
        handshake.reject = _with_problem(handshake.reject)


def _with_problem(reject: Callable[[Any, str], Response]) -> Callable[[Any, str], Response]:
    def rejecting(status: Any, text: str) -> Response:
        code = _CODES.get(int(status), Code.MALFORMED)
        # The library goes on with advice for those who look at it in a browser.
        detail = text.partition("\n")[0] if code is Code.MALFORMED else ""
        error = ChatError(code, detail, field="handshake" if code is Code.MALFORMED else None)
        response = reject(error.status, "")
        response.body = encode_problem(error)
        for name, value in (("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(response.body)))):
            del response.headers[name]
            response.headers[name] = value
        return response

    return rejecting
