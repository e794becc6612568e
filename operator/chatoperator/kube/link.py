"""The way to one cluster's Redis: opened by the URL that its Secret holds, and again when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, connect
from chatkernel.registry import PodEntry, Registry
from chatoperator.facts import Finding
from chatoperator.manifests import names
from chatoperator.model import RegistryView
from chatoperator.reasons import Reason
from chatoperator.registry_port import RedisRegistry
from chatoperator.spec import ChatCluster

log = logging.getLogger(__name__)

REFUSALS = (AuthenticationError, NoPermissionError, ResponseError)
"""Errors by which Redis says that it is there, and that it is us whom it does not want."""


class RedisLink:
    """Of one cluster. With no URL it knows nothing; a URL that cannot be read any more leaves the one of before."""

    def __init__(self, guard: Callable[[], None]) -> None:
        self._guard = guard
        self._opened: tuple[str, str] = ("", "")
        self._redis: Redis | None = None
        self._registry: RedisRegistry | None = None
        self.entries: Mapping[str, PodEntry] | None = None
        """By name, with a lease that goes on; None while Redis does not answer."""
        self.refusal: Finding | None = None

    async def open(self, cluster: ChatCluster, url: str) -> None:
        wanted = (url, cluster.spec.redis.key_prefix)
        if wanted == self._opened:
            return
        await self.aclose()
        self._opened, self._redis, self.refusal = wanted, connect(url), None
        meta = cluster.metadata
        keys = Keys(cluster.spec.redis.key_prefix, names.identity(meta.namespace, meta.name))
        self._registry = RedisRegistry(Registry(self._redis, keys))

    async def observe(self, now: float) -> RegistryView | None:
        """None while Redis does not answer."""
        if self._registry is None:
            self.entries = None
            return None
        try:
            view = await self._registry.observe(now)
        except TimeoutError:
            # What it said when it answered may hold no more.
            self.entries = self.refusal = None
            return None
        except ChatError as error:
            self.entries, self.refusal = None, _refusal(error)
            return None
        self.entries, self.refusal = self._registry.entries, None
        return view

    async def remove(self, pod: str, incarnation: str, *, for_good: bool = False) -> None:
        """Raises ChatError and NotLeading."""
        if self._registry is not None:
            self._guard()
            await self._registry.remove(pod, incarnation, for_good=for_good)

    async def set_policy(self, serving_revision: str, excluded: frozenset[str]) -> None:
        """Raises ChatError and NotLeading."""
        if self._registry is not None:
            self._guard()
            await self._registry.set_policy(serving_revision, excluded)

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
        self._redis = self._registry = None
        self._opened = ("", "")


def _refusal(error: ChatError) -> Finding | None:
    """Whether Redis answered and does not let us in. Its sentence holds no password."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, REFUSALS):
            return Finding(Reason.REGISTRY_REFUSES, f"Redis says: {cause}")
        cause = cause.__cause__
    return None
