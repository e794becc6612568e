"""Keeps a connection to every registered chat pod, sends through them in turn and by itself, and has it judged."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.probe_report import PodReport, ProbeReport
from chatkernel.protocol import Event, Send
from chatkernel.registry import PodEntry, PodState
from chatkernel.settings import SecretFile, ServiceSettings
from chatkernel.tickets import TicketIssuer
from chatkernel.wiring import Kernel
from prober.discovery import EXCUSED, Discovery
from prober.judge import CONTROL, Judge
from prober.link import Link, LinkError
from prober.people import People, ensure_channel, ensure_people

LOOK_INTERVAL_S = 1.0
CONTROL_INTERVAL_S = 1.0
TURN_S = 3.0
"""Within this each pod sends once, as long as that is at most `SENDS_MAX_PER_S`: up to thirty pods. More seldom would
be too seldom: of what is not handed on, a heartbeat (10 s) may find a message in the store at once, and still two
others are missed within 15 s."""
SENDS_MIN_PER_S, SENDS_MAX_PER_S = 0.5, 10.0
CHANNEL_RESTS_S = 3.0
"""Between two messages of pods in one channel: longer than what is lost is waited for."""
SETTLE_INTERVAL_S = 0.25
STALL_S = 1.0
"""A round of judging that comes so late was not run: neither was what should have noted arrivals."""
DISCOVERY_INTERVAL_S = 5.0
DISCOVERY_FAILURES = 2
"""In a row, until discovery is said not to work: one may meet an API pod that is just being replaced."""
RETRY_S = 1.0
QUIET_S = 3.0
"""After Redis or the store is back, until anything is judged: the pods have to notice, too."""

_STORE_AWAY = frozenset({Code.STORAGE_UNAVAILABLE, Code.STORAGE_FULL, Code.STORAGE_DAMAGED, Code.BUSY})

log = logging.getLogger(__name__)


class Away:
    """Which of Redis and the store do not answer, and for how long after it nothing is judged."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._away: set[str] = set()
        self._quiet_until = float("-inf")

    def names(self) -> list[str]:
        return sorted(self._away)

    def failed(self, what: str, error: Exception) -> None:
        if what not in self._away:
            log.warning("nothing is judged", extra={"away": what, "error": str(error)})
        self._away.add(what)

    def works(self, what: str) -> None:
        if what in self._away:
            self._away.discard(what)
            self._quiet_until = self._monotonic() + QUIET_S
            log.info("back", extra={"was_away": what})

    @property
    def quiet(self) -> bool:
        return bool(self._away) or self._monotonic() < self._quiet_until


class PodLink:
    """Implements Listener: one registered pod, and the task that keeps the connection to it."""

    def __init__(self, entry: PodEntry, probe: Probe) -> None:
        self.entry, self._probe = entry, probe
        self.link: Link | None = None
        self.task: asyncio.Task[None] | None = None
        self._problem = ""
        """Why there is no connection, as it was told last."""

    @property
    def name(self) -> str:
        return self.entry.name

    def acknowledged(self, message_id: str) -> None:
        self._probe.judge.stored(message_id, self._probe.monotonic())

    def refused(self, message_id: str, code: str) -> None:
        """As one that is not answered: it counts if others are taken meanwhile."""

    def arrived(self, event: Event) -> None:
        self._probe.judge.arrived(event.client_msg_id, self.name, self._probe.monotonic())

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await self._once()
            await asyncio.sleep(RETRY_S)

    async def _once(self) -> None:
        probe, entry = self._probe, self.entry
        judge = probe.judge
        judge.connecting(self.name, probe.monotonic())
        try:
            self.link = await Link.open(entry.address or entry.url, probe.ticket(entry), self)
        except LinkError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.info("not connected", extra={"to": self.name, "error": self._problem})
            if error.code in EXCUSED or probe.away.quiet:
                judge.excuse_connecting(self.name)
            return
        self._problem = ""
        judge.connected(self.name)
        try:
            await self.link.run()
        finally:
            self.link = None
            judge.lost(self.name)


class Probe:
    """`run` it; `report` at any time."""

    def __init__(
        self,
        settings: ServiceSettings,
        secret_file: SecretFile,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._secrets, self.monotonic = settings, secret_file, monotonic
        self.away = Away(monotonic)
        self.judge = Judge(self._excused)
        self.pods: dict[str, PodLink] = {}
        self._tickets = TicketIssuer(secret_file, settings.auth.ticket_ttl_s, now_ms)
        self._kernel: Kernel | None = None
        self._run_id, self._numbers = secrets.token_hex(4), itertools.count(1)
        self.discovery_ok: bool | None = None
        self._discovery_failures = 0
        self.started = False
        self.sent = 0

    async def run(self) -> None:
        """Until cancelled. Raises ChatError when trying again cannot help."""
        kernel = self._kernel = await self._again("store", self._open)
        kernel.start()
        try:
            people = await self._again("store", lambda: ensure_people(kernel))
            await self._probe(kernel, people)
        finally:
            await kernel.aclose()

    async def _probe(self, kernel: Kernel, people: People) -> None:
        self._people = people
        discovery = Discovery(self._settings, self._secrets, people, self._address_of)
        self.started = True
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for name, work in (
                    ("look", self._look(kernel)),
                    ("control", self._control(kernel, people)),
                    ("turns", self._send_in_turn(kernel, people)),
                    ("settle", self._settle()),
                    ("discovery", self._discover(discovery)),
                ):
                    self._tasks.create_task(work, name=name)
        finally:
            await discovery.aclose()

    async def _open(self) -> Kernel:
        return await Kernel.build(self._settings, self._secrets)

    async def _again(self, what: str, do: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Until it works. Raises ChatError when that is no matter of time."""
        while True:
            try:
                done = await do()
            except ChatError as error:
                if not error.retryable:
                    raise
                self.away.failed(what, error)
                await asyncio.sleep(RETRY_S)
            else:
                self.away.works(what)
                return done

    # -- the pods

    async def _look(self, kernel: Kernel) -> None:
        while True:
            try:
                snapshot = await kernel.registry.snapshot()
            except ChatError as error:
                self.away.failed("redis", error)
                self.judge.void()
            else:
                self.away.works("redis")
                wanted = {entry.name: entry for entry in snapshot.entries if entry.state is PodState.READY}
                self._follow(wanted)
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _follow(self, wanted: dict[str, PodEntry]) -> None:
        gone = [self.pods.pop(name) for name in list(self.pods) if name not in wanted]
        for entry in wanted.values():
            pod = self.pods.get(entry.name)
            if pod is None:
                pod = self.pods[entry.name] = PodLink(entry, self)
                pod.task = self._tasks.create_task(pod.keep(), name=f"link {entry.name}")
            pod.entry = entry
        for pod in gone:
            if pod.task is not None:
                pod.task.cancel()
            self.judge.forget(pod.name)

    def ticket(self, entry: PodEntry) -> str:
        caller = self._people.pods
        return self._tickets.issue(caller.user_id, caller.device_id, entry.name, entry.incarnation)[0]

    def _address_of(self, pod: str) -> str | None:
        known = self.pods.get(pod)
        return (known.entry.address or known.entry.url) if known is not None else None

    def _excused(self, pod: str, since: float) -> bool:
        """Whether the server of Redis that it reads from was away."""
        kernel = self._kernel
        return kernel is not None and kernel.redis.failed_at(kernel.keys.stream(pod)) >= since

    # -- messages

    def _live(self) -> dict[str, Link]:
        return {name: pod.link for name, pod in self.pods.items() if pod.link is not None and pod.link.live}

    def _new_message(self, sender: str) -> str:
        self.sent += 1
        message_id = f"{self._run_id}-{next(self._numbers)}"
        if not self.away.quiet:
            self.judge.sent(message_id, sender, self._live(), self.monotonic())
        return message_id

    async def _control(self, kernel: Kernel, people: People) -> None:
        """Sends as an API pod does. That this works is what tells a pod's fault from the store's."""
        while True:
            await self._send_control(kernel, people)
            await asyncio.sleep(CONTROL_INTERVAL_S)

    async def _send_control(self, kernel: Kernel, people: People) -> None:
        message_id = self._new_message(CONTROL)
        frame = Send(message_id, people.control_channel, message_id, f"probe {message_id}")
        try:
            await kernel.messaging.perform(people.control_actor, frame)
        except ChatError as error:
            if error.code not in _STORE_AWAY:
                raise
            self.away.failed("store", error)
            self.judge.void()
        else:
            self.away.works("store")
            self.judge.stored(message_id, self.monotonic())

    async def _send_in_turn(self, kernel: Kernel, people: People) -> None:
        channels: list[str] = []
        for turn in itertools.count():
            per_s = min(SENDS_MAX_PER_S, max(SENDS_MIN_PER_S, len(self.pods) / TURN_S))
            await asyncio.sleep(1 / per_s)
            if len(channels) < per_s * CHANNEL_RESTS_S:
                await self._add_channel(kernel, people, channels)
                continue
            live = self._live()
            if live and not self.away.quiet:
                name = sorted(live)[turn % len(live)]
                live[name].send(channels[turn % len(channels)], self._new_message(name))

    async def _add_channel(self, kernel: Kernel, people: People, channels: list[str]) -> None:
        try:
            channels.append(await ensure_channel(kernel, people, f"turns-{len(channels)}"))
        except ChatError as error:
            if not error.retryable:
                raise
            self.away.failed("store", error)  # until the control has got through

    async def _settle(self) -> None:
        before = self.monotonic()
        while True:
            await asyncio.sleep(SETTLE_INTERVAL_S)
            now = self.monotonic()
            if now - before > SETTLE_INTERVAL_S + STALL_S:
                log.warning("the prober was not running", extra={"for_s": round(now - before, 1)})
                self.judge.void()
            if not self.away.quiet:
                self.judge.settle(now)
            before = now

    async def _discover(self, discovery: Discovery) -> None:
        while True:
            await asyncio.sleep(DISCOVERY_INTERVAL_S)
            works = None if self.away.quiet else await discovery.works()
            # What failed while something was going away says nothing.
            if works is None or self.away.quiet:
                self.discovery_ok, self._discovery_failures = None, 0
                continue
            self._discovery_failures = 0 if works else self._discovery_failures + 1
            if works or self._discovery_failures >= DISCOVERY_FAILURES:
                self.discovery_ok = works

    # -- what is told

    def report(self) -> ProbeReport:
        now, judge = self.monotonic(), self.judge
        began_ms = now_ms() - now * 1000  # the monotonic clock
        pods: dict[str, PodReport] = {}
        for name in judge.pods:
            verdict = judge.verdict(name, now)
            if verdict is not None and not self.away.quiet:
                ok, since = verdict
                p99 = percentile(judge.latencies_ms(now, name), 0.99)
                pods[name] = PodReport(ok, None if since is None else int(since * 1000 + began_ms), p99)
        latencies = judge.latencies_ms(now)
        return ProbeReport(
            checked_at=0 if judge.judged_at is None else int(judge.judged_at * 1000 + began_ms),
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
            gaps=judge.gaps(now),
            discovery_ok=self.discovery_ok,
            pods=pods,
            unknown=self.away.names() or ([] if self.started else ["starting"]),
        )


def percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
