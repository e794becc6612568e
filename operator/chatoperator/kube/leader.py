"""Which of the operator's processes acts: the one that holds the Lease.

The library has an election (`kubernetes.aio.leaderelection`), which cannot be used here: its requests may take five
minutes, far longer than the Lease, and until they end their holder goes on acting; it counts the time that it holds
the Lease from the answer and not from the request; and it counts by the wall clock, which may be set.

Here a holder counts, by its monotonic clock, from before the request that renewed the Lease, and for less than others
wait. So however long it was frozen, and wherever: `check` refuses before the next action, and the process ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import Conflict, KubeError, NotFound, NotLeading
from chatoperator.kube.kinds import LEASE, Object

log = logging.getLogger(__name__)

LEASE_S = 9
"""Others wait for this long, counted from when they first saw the Lease as it is."""
HOLD_S = 6.0
"""The holder acts for this long after it began to renew: less than LEASE_S by more than a request may still be under
way when its sender has stopped waiting for it."""
RENEW_S = 2.0
TRY_S = 1.0
REQUEST_S = 3.0


class LeaseLost(Exception):
    """The Lease is not held any more: this process must not go on."""


class Leader:
    """`acquire`, then `hold` beside the work that may only be done by one; `check` before each action of it."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        renew_s: float = RENEW_S,
        request_s: float = REQUEST_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._namespace, self._name, self.identity = client, namespace, name, identity
        self._renew_s, self._request_s, self._monotonic = renew_s, request_s, monotonic
        self._lease: Object | None = None
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._held_from: float | None = None
        self.heard_at = -1e9
        """When the API server last told of the Lease (monotonic): a standby is well as long as it hears."""

    def is_leading(self) -> bool:
        return self._held_from is not None and self._monotonic() - self._held_from < HOLD_S

    def check(self) -> None:
        """Raises NotLeading."""
        if not self.is_leading():
            raise NotLeading(f"{self.identity} does not hold the Lease {self._name}")

    async def acquire(self) -> None:
        """Returns when this process holds the Lease."""
        told = ""
        while True:
            try:
                if await self._try():
                    log.info("leading", extra={"of": self.identity})
                    return
                problem = ""
            except (KubeError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
            if problem and problem != told:
                log.warning("the Lease cannot be had", extra={"error": problem})
            told = problem
            await asyncio.sleep(TRY_S)

    async def hold(self) -> None:
        """Renews for ever. Raises LeaseLost: then everything else has to stop at once."""
        while self.is_leading():
            await asyncio.sleep(self._renew_s)
            try:
                if not await self._try():
                    raise LeaseLost(f"another process has taken the Lease {self._name}")
            except (KubeError, TimeoutError) as error:
                log.warning("the Lease was not renewed", extra={"error": str(error) or type(error).__name__})
        raise LeaseLost(f"the Lease {self._name} could not be renewed for {HOLD_S:g} s")

    async def release(self) -> None:
        """So that another need not wait. At a clean end only, when nothing is under way any more."""
        if self._lease is not None and self.is_leading():
            self._held_from = None
            spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            try:
                async with asyncio.timeout(self._request_s):
                    await self._client.replace({**self._lease, "spec": spec})
            except (KubeError, TimeoutError) as error:
                log.warning("the Lease was not released", extra={"error": str(error)})

    async def _try(self) -> bool:
        """Whether it is held now. Raises KubeError and TimeoutError."""
        began = self._monotonic()
        async with asyncio.timeout(self._request_s):
            try:
                lease = await self._client.get(LEASE, self._namespace, self._name)
            except NotFound:
                return await self._write(self._client.create, self._manifest({}), began)
            self.heard_at = self._monotonic()
            spec = lease.get("spec") or {}
            holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime"))
            if (holder, renewed) != self._seen:
                self._seen, self._seen_at = (holder, renewed), self._monotonic()
            waited_s = self._monotonic() - self._seen_at
            if holder not in ("", self.identity) and waited_s < float(
                spec.get("leaseDurationSeconds") or LEASE_S
            ):
                return False
            wanted = self._manifest(spec)
            wanted["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
            return await self._write(self._client.replace, wanted, began)

    async def _write(
        self, write: Callable[[Object], Awaitable[Object]], wanted: Object, began: float
    ) -> bool:
        """Of two that write at once one gets Conflict: the resource version was of before the other."""
        try:
            self._lease = await write(wanted)
        except Conflict:
            return False
        self.heard_at = self._monotonic()
        self._held_from = began
        return True

    def _manifest(self, before: Object) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = before.get("holderIdentity") == self.identity
        changes = int(before.get("leaseTransitions") or 0)
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LEASE_S,
                "acquireTime": before.get("acquireTime", now) if mine else now,
                "renewTime": now,
                "leaseTransitions": changes if mine or not before else changes + 1,
            },
        }
