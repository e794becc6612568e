"""Events: what the operator did to a cluster, each once, in words. `kubectl describe chat` shows them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct

from chatoperator.again import Again
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import KubeError
from chatoperator.kube.kinds import EVENT, Object
from chatoperator.manifests.inputs import Owner
from chatoperator.manifests.names import FIELD_MANAGER

log = logging.getLogger(__name__)

WAITING_MAX = 1000
"""Events that wait to be sent; more are dropped: they are a help, and no part of what is promised."""
NOTE_MAX_CHARS = 1000
"""The API takes 1 KiB."""


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


class Regarding(Struct, frozen=True):
    """The object that an event is about."""

    owner: Owner
    namespace: str


class Events:
    """`tell` never waits; `run` sends."""

    def __init__(self, client: KubeClient, instance: str) -> None:
        self._client, self._instance = client, instance
        self._waiting: asyncio.Queue[Object] = asyncio.Queue(WAITING_MAX)

    def tell(
        self, about: Regarding, reason: str, action: str, note: str, kind: EventType = EventType.NORMAL
    ) -> None:
        """`reason` and `action` are words in CamelCase, `note` is a sentence."""
        event: Object = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{about.owner.name}.{secrets.token_hex(8)}",
                "namespace": about.namespace,
            },
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "type": str(kind),
            "reason": reason,
            "action": action,
            "note": note[:NOTE_MAX_CHARS],
            "regarding": {
                "apiVersion": about.owner.api_version,
                "kind": about.owner.kind,
                "name": about.owner.name,
                "namespace": about.namespace,
                "uid": about.owner.uid,
            },
        }
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("event dropped", extra={"reason": reason, "note": note})

    async def run(self) -> None:
        """Until it is cancelled."""
        again = Again()
        while True:
            event = await self._waiting.get()
            with again("sending an event"):
                try:
                    await self._client.create(event)
                except KubeError as error:
                    log.warning("event not taken", extra={"note": event["note"], "error": str(error)})
