"""The revision of a kind of pod: a hash of exactly the settings that need a new pod.

Replicas, drain rates, rebalancing and the like are not in it: changing them makes no new pods.
"""

from __future__ import annotations

import hashlib

import msgspec

from chatoperator.model import PodKind
from chatoperator.spec import Spec

REVISION_CHARS = 8


def revision_of(spec: Spec, kind: PodKind) -> str:
    """Short, stable between runs, and another one for every change that needs new pods of this kind."""
    parts: list[object] = [
        kind,
        spec.version,
        spec.region,
        spec.presence,
        spec.limits,
        spec.auth,
        spec.redis,
        msgspec.structs.replace(spec.storage, zones=[]),  # where shards keep what is of no matter to pods
    ]
    if kind is PodKind.CHAT:
        parts += [
            spec.chat_pods.connections_per_pod,
            spec.chat_pods.env,
            spec.chat_pods.hello_timeout_seconds,
        ]
    if kind in (PodKind.CHAT, PodKind.WORKER):  # pods hold leases, and the worker clears away after them
        parts.append(spec.chat_pods.lease_seconds)
    if kind in (PodKind.CHAT, PodKind.API):
        parts.append(spec.receipts)
    raw = msgspec.json.encode(parts, order="sorted")
    return hashlib.sha256(raw).hexdigest()[:REVISION_CHARS]


def replicas_of(spec: Spec, kind: PodKind) -> int:
    if kind is PodKind.CHAT:
        return spec.chat_pods.replicas
    return spec.api_pods.replicas if kind is PodKind.API else spec.worker.replicas
