"""The revision of a kind of pod: a hash of exactly the settings that need a new pod.

Replicas, rebalancing and the like are not in it, nor is what pods follow while they run (`live_settings` in
`podsettings.py`: limits, drain, rates): changing them makes no new pods.
"""

from __future__ import annotations

import hashlib
from functools import cache

import msgspec
from msgspec import Struct

from chatoperator.model import PodKind
from chatoperator.spec import Auth, PodTemplate, Spec

REVISION_CHARS = 8

_RATES = {
    name: getattr(Auth(), name)
    for name in (
        "login_attempts",
        "login_window_seconds",
        "requests_per_s",
        "requests_burst",
        "user_requests_per_s",
        "user_requests_burst",
        "signups_per_address",
    )
}
"""How often people may come, as by default: pods follow these."""


def revision_of(spec: Spec, kind: PodKind) -> str:
    """Short, stable between runs, and another one for every change that needs new pods of this kind."""
    parts: list[object] = [
        kind,
        spec.version,
        spec.image,
        spec.image_pull_policy,
        spec.image_pull_secrets,
        spec.region,
        spec.presence,
        _auth(spec.auth, kind),
        spec.redis,
        None if spec.mongodb is None else msgspec.structs.replace(spec.mongodb, zones=[]),
        spec.postgresql,
        _template(spec, kind),
    ]
    if kind is PodKind.CHAT:
        parts += [
            spec.chat_pods.connections_per_pod,
            spec.chat_pods.env,
            spec.chat_pods.hello_timeout_seconds,
            spec.chat_pods.termination_grace_period_seconds,
        ]
    if kind in (PodKind.CHAT, PodKind.WORKER):  # pods hold leases, and the worker clears away after them
        parts.append(spec.chat_pods.lease_seconds)
    if kind in (PodKind.CHAT, PodKind.API):
        parts.append(spec.receipts)
    if kind in (PodKind.API, PodKind.WORKER):  # one bounds what groups may choose, the other removes
        parts.append(spec.retention)
    if kind in (PodKind.CHAT, PodKind.API) and spec.exposure is not None:  # pods know their own address
        parts.append([spec.exposure.host, spec.exposure.tls is not None])
    raw = msgspec.json.encode([_said(part) for part in parts], order="sorted")
    return hashlib.sha256(raw).hexdigest()[:REVISION_CHARS]


def _auth(auth: Auth, kind: PodKind) -> object:
    """What pods of this kind are told of it: sockets are opened with tickets, and only where they may come from is
    asked there."""
    if kind is PodKind.CHAT:
        return auth.allowed_origins
    return msgspec.structs.replace(auth, **_RATES) if kind is PodKind.API else None


def _template(spec: Spec, kind: PodKind) -> PodTemplate:
    if kind is PodKind.CHAT:
        return spec.chat_pods.pod
    return spec.api_pods.pod if kind is PodKind.API else spec.worker.pod


def _said(value: object) -> object:
    """Without what is as by default: a release with a new field makes no new pods of an old resource."""
    if isinstance(value, Struct):
        told = [(field, getattr(value, field.name)) for field in _fields(type(value))]
        return {field.encode_name: _said(each) for field, each in told if not _is_default(each, field)}
    if isinstance(value, list):
        return [_said(each) for each in value]
    return value


@cache
def _fields(kind: type[Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Looked up once: it is slow, and revisions are asked for many times a second."""
    return msgspec.structs.fields(kind)


def _is_default(value: object, field: msgspec.structs.FieldInfo) -> bool:
    made = field.default_factory is not msgspec.NODEFAULT
    return bool(value == (field.default_factory() if made else field.default))


def replicas_of(spec: Spec, kind: PodKind) -> int:
    if kind is PodKind.CHAT:
        return spec.chat_pods.replicas
    return spec.api_pods.replicas if kind is PodKind.API else spec.worker.replicas
