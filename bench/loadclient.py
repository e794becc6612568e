"""The load client: a process with up to some 15,000 sockets that costs less than the pod it drives.

Commands come over a pipe (`Remote`); between commands it keeps reading and beating.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from bench import machine, wire
from bench.errors import BenchError
from bench.httpclient import HttpPool, post_request
from bench.loop import Loop
from bench.plans import Plan, Window
from bench.remote import answer
from bench.socketclient import PING, ClientSocket
from chatkernel.ids import now_ms
from chatkernel.settings import SecretFile, SigningKey
from chatkernel.tickets import TicketIssuer

BUFFER_BYTES = 4 * 1024 * 1024
BEAT_INTERVAL_S = 10.0
TICKET_TTL_S = 30.0
QUIET_S = 0.1
OPEN_LOOP_WINDOW_S = 1.0
SOURCES = tuple(f"127.0.0.{n}" for n in range(2, 10)) if machine.LINUX else (None,)
"""Client addresses: each has ports of its own."""


class LoadClient:
    def __init__(self) -> None:
        machine.raise_file_limit()
        self.loop = Loop()
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.counts = wire.Counts()
        self.hello_events = self.sent = self.answers = 0
        self.latencies: list[int] | None = None
        self.late: list[int] | None = None
        self.run_id = ""
        self._issuer: TicketIssuer | None = None
        self._sockets: list[ClientSocket] = []
        self._pending: deque[Plan] = deque()
        self._opening = self._concurrency = self._opened = 0
        self._beat_at, self._beat_debt, self._beat_next = time.monotonic(), 0.0, 0
        self._resume, self._beats = False, True
        self._failure = ""
        self._ready_at: list[float] = []
        self._api: tuple[str, int] = ("", 0)
        self._http: HttpPool | None = None

    # --- commands -----------------------------------------------------------------------------------------

    def hello(self) -> bool:
        return True

    def configure(self, run_id: str, kid: str, secret: str, api: tuple[str, int] = ("", 0)) -> None:
        """`run_id` makes the client message ids of this client unlike those of earlier ones."""
        self.run_id, self._api = run_id, api
        if secret:
            self._issuer = TicketIssuer(SecretFile([SigningKey(kid, secret)]), TICKET_TTL_S, now_ms)

    def open(self, plans: Sequence[Plan], concurrency: int, pids: Sequence[int] = ()) -> Window:
        """Bring all of these to where their hello is acked; what that took."""
        target = self._opened + len(plans)
        self._concurrency = concurrency
        if any(plan.token for plan in plans) and self._http is None:
            self._http = HttpPool(self.loop, *self._api, concurrency)
        begin = self._snapshot(pids)
        self._pending.extend(plans)
        self._start_more()
        if not self.loop.until(lambda: self._opened >= target, 120):
            raise BenchError(f"{target - self._opened} of {len(plans)} connections are not there after 120 s")
        return self._window(begin, self._snapshot(pids))

    def closed_loop(
        self, active: Sequence[tuple[int, int]], warm_s: float, window_s: float, pids: Sequence[int]
    ) -> Window:
        """Each (index, n) of `active` keeps n requests in flight; a window after the warm-up is counted."""
        for index, in_flight in active:
            each = self._sockets[index]
            each.sending = True
            for _ in range(in_flight):
                each.send_next()
        try:
            return self._measure(warm_s, window_s, pids, lambda: 0.02)
        finally:
            self._quiesce([self._sockets[index] for index, _ in active])

    def open_loop(
        self, active: Sequence[int], per_s: float, warm_s: float, windows: int, pids: Sequence[int]
    ) -> list[Window]:
        """Messages at a fixed rate, in turn from `active`, in windows of a second. Nothing waits for an answer: a
        server that is late delays no message, so ages may count from when each was written."""
        senders = [self._sockets[index] for index in active]
        start = time.monotonic()
        issued = 0

        def send_due() -> float:
            nonlocal issued
            due = int((time.monotonic() - start) * per_s)
            while issued < due:
                issued += 1
                if self.late is not None:
                    self.late.append(int((time.monotonic() - start - issued / per_s) * 1e6))
                senders[issued % len(senders)].send_next()
            return max(0.0, start + (issued + 1) / per_s - time.monotonic())

        try:
            self._run_until(time.monotonic() + warm_s, send_due)
            return [self._measure(0.0, OPEN_LOOP_WINDOW_S, pids, send_due) for _ in range(windows)]
        finally:
            self._quiesce(senders)

    def send_instead(self, frames: dict[int, str]) -> None:
        """From now on these connections send this text instead of messages."""
        for index, text in frames.items():
            data = wire.client_frame(text.encode())
            self._sockets[index].frame = lambda _number, data=data: data

    def http_loop(
        self,
        tokens: Sequence[str],
        path: str,
        body: object,
        in_flight: int,
        window: tuple[float, float],
        pids: Sequence[int],
    ) -> Window:
        """The same POST again and again in the name of each token in turn, `in_flight` at a time."""
        pool = HttpPool(self.loop, *self._api, in_flight)
        requests = [post_request(*self._api, path, token, body) for token in tokens]
        running = True
        outstanding = 0

        def go() -> None:
            nonlocal outstanding
            outstanding += 1
            pool.request(requests[(self.answers + outstanding) % len(requests)], got)

        def got(status: int, data: bytes) -> None:
            nonlocal outstanding
            outstanding -= 1
            if status >= 300:
                raise BenchError(f"POST {path}: {status} {data[:200]!r}")
            self.answers += 1
            if running:
                go()

        for _ in range(in_flight):
            go()
        result = self._measure(*window, pids, lambda: 0.02)
        running = False
        self.loop.until(lambda: not outstanding, 10)
        pool.close()
        return result

    def rest(self, seconds: float, pids: Sequence[int]) -> Window:
        """Only read and beat."""
        return self._measure(0.0, seconds, pids, lambda: 0.02)

    def resume_on_loss(self, concurrency: int) -> None:
        """From now on a connection that breaks takes a new seat through discovery, at once."""
        self._resume, self._concurrency, self._ready_at = True, concurrency, []
        if self._http is None:
            self._http = HttpPool(self.loop, *self._api, concurrency)

    def await_resumed(self, wanted: int, timeout_s: float) -> list[float]:
        """When (monotonic clock) each of them was in sync again, in order."""
        self.loop.until(lambda: len(self._ready_at) >= wanted, timeout_s)
        self._resume = False
        if len(self._ready_at) < wanted:
            raise BenchError(f"only {len(self._ready_at)} of {wanted} clients came back in {timeout_s:.0f} s")
        return self._ready_at

    def totals(self) -> dict[str, int]:
        """Since this client began."""
        return {"sent": self.sent, "acks": self.counts.acks, "events": self.counts.events}

    def beats(self, on: bool) -> None:
        self._beats = on

    def close_all(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        if self._http is not None:
            self._http.close()
            self._http = None

    # --- what sockets tell --------------------------------------------------------------------------------

    def ticket(self, plan: Plan) -> str:
        if plan.ticket or self._issuer is None:
            return plan.ticket
        return self._issuer.issue(plan.user_id, plan.device_id, plan.pod, plan.incarnation)[0]

    def became_ready(self, _each: ClientSocket) -> None:
        self._opening -= 1
        self._opened += 1
        if self._resume:
            self._ready_at.append(time.monotonic())
        self._start_more()

    def lost(self, each: ClientSocket) -> None:
        each.close()
        if not self._resume:
            last = each.tail[-80:]
            raise BenchError(f"the server closed a connection of {each.plan.pod} (last bytes {last!r})")
        self._sockets.remove(each)
        if not each.ready:
            self._opening -= 1
        self._pending.append(each.plan)
        self._start_more()

    # --- inside -------------------------------------------------------------------------------------------

    def _start_more(self) -> None:
        while self._pending and self._opening < self._concurrency:
            plan = self._pending.popleft()
            self._opening += 1
            if plan.token and (self._resume or not plan.host):
                self._take_seat(plan)
            else:
                self._connect(plan)

    def _take_seat(self, plan: Plan) -> None:
        if self._http is None:
            raise BenchError("no API to ask for a seat")
        body = {"exclude": [plan.pod]} if plan.pod else {}
        request = post_request(*self._api, "/v1/seats", plan.token, body)

        def seated(status: int, data: bytes) -> None:
            if status in (429, 503):
                self.loop.later(0.02, lambda: self._take_seat(plan))
                return
            if status != 200:
                raise BenchError(f"no seat: {status} {data[:300]!r}")
            best = json.loads(data)["best"]
            url = urlsplit(best["url"])
            plan.pod, plan.ticket = best["pod"], best["ticket"]
            plan.host, plan.port, plan.path = url.hostname or "", url.port or 80, url.path or "/"
            self._connect(plan)

        self._http.request(request, seated)

    def _connect(self, plan: Plan) -> None:
        try:
            each = ClientSocket(self, plan, SOURCES[len(self._sockets) % len(SOURCES)])
        except OSError as error:
            if not self._resume:
                raise BenchError(f"connecting to {plan.pod}: {error}") from error
            self._opening -= 1
            self._pending.append(plan)
            self.loop.later(0.01, self._start_more)
            return
        self._sockets.append(each)

    def _snapshot(self, pids: Sequence[int]) -> tuple[float, dict[int, float], float, wire.Counts, int, int]:
        if self._failure:
            raise BenchError(f"before this measurement: {self._failure}")
        counts = wire.Counts()
        counts.events, counts.acks, counts.pages = self.counts.events, self.counts.acks, self.counts.pages
        cpu = {pid: machine.cpu_s(pid) for pid in pids}
        return time.monotonic(), cpu, time.process_time(), counts, self.sent, self.answers

    def _window(self, begin: tuple, end: tuple) -> Window:
        return Window(
            wall_s=end[0] - begin[0],
            cpu_s={pid: end[1][pid] - begin[1][pid] for pid in end[1]},
            client_cpu_s=end[2] - begin[2],
            events=end[3].events - begin[3].events,
            acks=end[3].acks - begin[3].acks,
            pages=end[3].pages - begin[3].pages,
            sent=end[4] - begin[4],
            answers=end[5] - begin[5],
        )

    def _measure(
        self, warm_s: float, window_s: float, pids: Sequence[int], idle: Callable[[], float]
    ) -> Window:
        """`idle()` is called before each round and says how long the round may wait."""
        self._run_until(time.monotonic() + warm_s, idle)
        self.latencies, self.late = [], []
        stolen_s, begin = machine.stolen_s(), self._snapshot(pids)
        self._run_until(begin[0] + window_s, idle)
        result = self._window(begin, self._snapshot(pids))
        result.stolen_share = (machine.stolen_s() - stolen_s) / (result.wall_s * len(machine.CORES))
        result.latencies_us, self.latencies = sorted(self.latencies), None
        result.late_us, self.late = sorted(self.late), None
        return result

    def _run_until(self, end: float, idle: Callable[[], float]) -> None:
        while (now := time.monotonic()) < end:
            self._beat(now)
            self.loop.pump(idle())

    def _quiesce(self, senders: Sequence[ClientSocket]) -> None:
        """Stop, and read until nothing more comes: the next measurement begins with empty queues."""
        for each in senders:
            each.sending = False
        if not self.loop.until(lambda: not any(each.in_flight for each in senders), 20):
            missing = sum(each.in_flight for each in senders)
            raise BenchError(f"{missing} requests have no answer after 20 s")
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            if self.loop.pump(0.02):
                quiet_since = time.monotonic()

    def _beat(self, now: float) -> None:
        """Every connection pings once in BEAT_INTERVAL_S, evenly spread."""
        sockets = self._sockets
        self._beat_debt += (now - self._beat_at) * len(sockets) / BEAT_INTERVAL_S
        self._beat_at = now
        if not self._beats:
            self._beat_debt = 0.0
        if self._beat_debt > len(sockets):
            self._beat_debt = float(len(sockets))
        while self._beat_debt >= 1:
            self._beat_debt -= 1
            self._beat_next = (self._beat_next + 1) % len(sockets)
            if sockets[self._beat_next].ready:
                sockets[self._beat_next].write(PING)

    def serve(self, pipe: Connection) -> None:
        gone = False

        def command(_events: int) -> None:
            nonlocal gone
            gone = not answer(pipe, self)

        self.loop.add(pipe.fileno(), command)
        while not gone:
            try:
                self._beat(time.monotonic())
                self.loop.pump(0.05)
            except BenchError as error:
                self._failure = str(error)


def main(pipe: Connection) -> None:
    LoadClient().serve(pipe)
