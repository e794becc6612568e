"""The AsyncAPI 3.0 document of the sockets, made from the frames' own types and the catalogue."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import msgspec

from chatkernel import protocol
from chatkernel.errors import CATALOGUE, RESUMABLE, Close
from chatkernel.protocol import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ClientFrame, Limits, ServerFrame
from chatkernel.settings import SOCKET_PATH

REF_TEMPLATE = "#/components/schemas/{name}"
CHANNEL_REF = {"$ref": "#/channels/socket"}

_REPLIES: dict[type, tuple[type, ...]] = {
    protocol.Hello: (protocol.Welcome, protocol.Page, protocol.Ack, protocol.Error),
    protocol.Sync: (protocol.Page, protocol.Ack, protocol.Error),
    protocol.History: (protocol.Page, protocol.Ack, protocol.Error),
    protocol.PresenceWatch: (protocol.Presence, protocol.Ack, protocol.Error),
    protocol.Ping: (protocol.Pong, protocol.Error),
}
_USUAL_REPLY = (protocol.Ack, protocol.Error)


def client_frames() -> tuple[type, ...]:
    return get_args(ClientFrame)


def server_frames() -> tuple[type, ...]:
    return get_args(ServerFrame)


def asyncapi(limits: Limits) -> dict[str, Any]:
    """The document as plain data. The application it describes is a chat pod."""
    frames = [*client_frames(), *server_frames()]
    _, schemas = msgspec.json.schema_components(frames, ref_template=REF_TEMPLATE)
    names = [frame.__name__ for frame in frames]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ChatCluster sockets",
            "version": "1",
            "description": (
                f"Frames of the subprotocols `{SUBPROTOCOL_JSON}` (text, JSON) and `{SUBPROTOCOL_MSGPACK}` "
                "(binary, MessagePack). Discovery (`POST /v1/seats`) gives the URL, and the ticket for `hello`."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": SOCKET_PATH,
                "title": "A WebSocket to a chat pod",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            **{_operation_id("receive", frame): _received(frame) for frame in client_frames()},
            **{_operation_id("send", frame): _sent(frame) for frame in server_frames()},
        },
        "components": {
            "messages": {frame.__name__: _message(frame) for frame in frames},
            "schemas": schemas,
        },
        "x-limits": msgspec.to_builtins(limits),
        "x-errors": {
            code.value: {"meaning": spec.meaning, "retryable": spec.retryable, "http_status": spec.status}
            for code, spec in CATALOGUE.items()
        },
        "x-close-codes": {
            str(close.value): {"name": close.name.lower(), "reconnect": close in RESUMABLE} for close in Close
        },
    }


def _operation_id(verb: str, frame: type) -> str:
    return verb + frame.__name__


def _message_ref(frame: type) -> dict[str, str]:
    return {"$ref": f"#/channels/socket/messages/{frame.__name__}"}


def _received(frame: type) -> dict[str, Any]:
    replies = _REPLIES.get(frame, _USUAL_REPLY)
    return {
        "action": "receive",
        "channel": CHANNEL_REF,
        "summary": _summary(frame),
        "messages": [_message_ref(frame)],
        "reply": {"channel": CHANNEL_REF, "messages": [_message_ref(reply) for reply in replies]},
    }


def _sent(frame: type) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": CHANNEL_REF,
        "summary": _summary(frame),
        "messages": [_message_ref(frame)],
    }


def _message(frame: type) -> dict[str, Any]:
    config = getattr(frame, "__struct_config__")  # noqa: B009 - every frame is a Struct; `type` does not say so
    return {
        "name": str(config.tag),
        "title": frame.__name__,
        "summary": _summary(frame),
        "contentType": "application/json",
        "payload": {"$ref": REF_TEMPLATE.format(name=frame.__name__)},
    }


def _summary(frame: type) -> str:
    doc = inspect.cleandoc(frame.__doc__ or "")
    # A Struct without a docstring has a generated one: its signature.
    if not doc or doc.startswith(frame.__name__ + "("):
        return f"`{getattr(frame, '__struct_config__').tag}`"  # noqa: B009
    return doc.partition("\n\n")[0].replace("\n", " ")
