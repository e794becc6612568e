"""One drill from the first sign-up to the verdict."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random

from chatclient.control import ClusterStatus, Control, Refused, same_place
from chatclient.drill.arena import Arena, DrillError
from chatclient.drill.checker import check
from chatclient.drill.crowd import Crowd, Device, gather_limited, read_log
from chatclient.drill.faults import (
    MOVING,
    expand,
    fault_of,
    has_program,
    label_of,
    needs_control,
    needs_own_redis,
)
from chatclient.drill.histories import Latencies
from chatclient.drill.load import Intruders, Load
from chatclient.drill.moves import Breach, breach_of
from chatclient.drill.report import (
    NO_OUTBOX_FILLED,
    NOBODY_THERE,
    FaultRecord,
    Measured,
    Report,
    make_report,
    quantile,
)
from chatclient.drill.settling import BACK_WITHIN_S, Evidence, is_level, settled
from chatclient.drill.shape import DrillOptions, make_shape
from chatclient.errors import Unreachable
from chatclient.http import new_http
from chatkernel.protocol import Event

CALM_FIRST_S = 3.0
"""Load without faults at the beginning, to have something to compare with."""

GAP_S = 1.0
"""Between two faults."""

REBALANCING = "rebalancing"
"""A pod's word for moves that even out the load after a fault; they are not the fault's own."""

Tell = Callable[[str], None]


class Drill:
    """`tell` gets a line about what is going on; `progress` may be read at any time."""

    def __init__(
        self, url: str, options: DrillOptions, *, control: Control | None, book: Path | None, tell: Tell
    ) -> None:
        self.options, self.url = options, url
        self._control, self._tell = control, tell
        self._now = time.monotonic  # the loop's own clock stands still within a turn
        self._rng = Random(options.seed)
        self._http = new_http(max_connections=64)
        self._latencies = Latencies(self._now)
        self._crowd = Crowd(
            url,
            make_shape(options),
            self._latencies,
            http=self._http,
            rng=Random(options.seed + 1),
            now=self._now,
            book=book,
        )
        self._measured = Measured(seed=options.seed)
        self._load: Load | None = None
        self._started = 0.0
        self._spans: list[tuple[FaultRecord, float, float]] = []
        """Faults from their beginning until they were over; recovery comes after."""

    def progress(self) -> str:
        """Where we are, in a line."""
        if self._load is None:
            return ""
        connected = sum(device.client.connected for device in self._crowd.devices)
        elapsed = self._now() - self._started
        return (
            f"{elapsed:4.0f} s  sent {len(self._load.sent)}  acked {self._load.acked}  "
            f"connected {connected}/{len(self._crowd.devices)}"
        )

    async def run(self) -> Report:
        """Raises DrillError, ChatError or Unreachable when it cannot be run at all."""
        faults = await self._possible(self._fault_list())
        try:
            await self._gather_crowd()
            return await self._drill(faults)
        finally:
            await self._crowd.close()
            await self._http.aclose()

    def _fault_list(self) -> list[str]:
        try:
            names = expand(list(self.options.faults)) * self.options.times
        except ValueError as error:
            raise DrillError(str(error)) from error
        self._rng.shuffle(names)
        return names

    async def _possible(self, faults: list[str]) -> list[str]:
        """What of it can be done to this cluster. Raises DrillError before anything is broken."""
        of_server = sorted({name for name in faults if needs_control(name)})
        if not of_server:
            return faults
        status = await self._status(", ".join(of_server))
        if status.redis.embedded:
            return faults
        impossible = sorted({name for name in faults if needs_own_redis(name)})
        why = "this cluster does not run its own Redis"
        if asked := [name for name in impossible if name in self.options.faults]:
            raise DrillError(f"{', '.join(asked)} cannot be done: {why}")
        self._measured.left_out = [f"{name} was left out: {why}" for name in impossible]
        for line in self._measured.left_out:
            self._tell(line)
        return [name for name in faults if name not in impossible]

    async def _status(self, faults: str) -> ClusterStatus:
        """Of the cluster that is drilled. Raises DrillError when the control socket is not that one's."""
        if self._control is None or not self._control.exists:
            raise DrillError(
                f"{faults} can only be done to a cluster whose control socket is here: "
                "name its data directory with --data, or use cut-connections and slow-reader"
            )
        try:
            status = await self._control.status()
        except (Unreachable, Refused) as error:
            raise DrillError(str(error)) from error
        if not same_place(status.url, self.url):
            raise DrillError(
                f"{faults} would be done to {status.url}, whose data directory was named, and not "
                f"to {self.url}: name the data directory of that cluster with --data, or leave --url away"
            )
        return status

    async def _environ(self) -> dict[str, str]:
        """For faults that are programs."""
        environ = {"CHATCTL_URL": self.url}
        if self._control is not None:
            with suppress(Refused, Unreachable):
                if same_place((await self._control.status()).url, self.url):
                    environ["CHATCTL_DATA"] = str(self._control.data)
        return environ

    async def _gather_crowd(self) -> None:
        users, devices = self.options.users, sum(self._crowd.shape.devices)
        self._tell(f"{users} users with {devices} devices log in")
        await self._crowd.enter(_every(50, lambda n: self._tell(f"{n} of {users} users are there")))
        self._tell(f"they make {len(self._crowd.shape.channels)} channels")
        await self._crowd.make_rooms()
        await self._crowd.connect(
            _every(100, lambda n: self._tell(f"{n} of {devices} devices are connected"))
        )
        self._crowd.save()

    async def _drill(self, faults: list[str]) -> Report:
        load = self._load = Load(self._crowd, self.options.rate, Random(self.options.seed + 2), self._now)
        intruders = Intruders(self._crowd, Random(self.options.seed + 3))
        arena = Arena(
            self._crowd.devices,
            self._control,
            self._rng,
            self._now,
            self.options.hold_s,
            await self._environ(),
        )
        self._started = self._now()
        self._tell(f"sending {self.options.rate:g} messages/s")
        sending = asyncio.create_task(load.run(), name="drill load")
        intruding = asyncio.create_task(intruders.run(), name="drill intruders")
        try:
            await asyncio.sleep(min(CALM_FIRST_S, self.options.duration_s / 3))
            await intruders.remove_members()
            for name in faults:
                await self._fault(name, arena, load)
                await asyncio.sleep(GAP_S)
            await asyncio.sleep(max(0.0, self._started + self.options.duration_s - self._now()))
            intruders.running = load.running = False
            await asyncio.gather(sending, intruding)
        finally:
            sending.cancel()
            intruding.cancel()
        measured = self._measured
        measured.duration_s = self._now() - self._started
        measured.intrusions_tried = len(intruders.tried)
        found = await self._settle(load, arena)
        self._collect(load, arena)
        self._tell("comparing what was sent, acked, seen and stored")
        verdict = check(found.sends, found.histories, found.logs, intruders.tried, found.heads)
        return make_report(verdict, measured)

    # --- one fault ---

    async def _fault(self, name: str, arena: Arena, load: Load) -> None:
        started = self._now()
        record = FaultRecord(label_of(name), round(started - self._started, 1))
        self._measured.fault_log.append(record)
        self._tell(f"fault: {record.name}")
        self._latencies.calm = False
        arena.forget()
        chat_pods = await self._chat_pods(name)
        await self._strike(name, record, arena)
        self._spans.append((record, started, self._now()))
        await self._recover(record, arena, chat_pods, load)
        ended = self._now()
        record.lost_connections = sum(
            started <= loss.at_s <= ended for device in arena.devices for loss in device.recorder.losses
        )
        record.took_s = round(ended - started, 1)
        parts = set(name.split("+"))
        if MOVING & parts:
            self._judge_moves(record, arena, started, ended)
        if "kill-pod" in parts:
            took_s = self._reconnects(arena)
            record.clients, record.reconnect_p95_s = len(took_s), quantile(took_s, 0.95)
            self._measured.reconnects_s += took_s
        if "slow-reader" in parts:
            record.slow_let_go = sum(one.let_go for one in arena.slow)
            # Another fault at once may make a pod write late, when the readers read again.
            record.slow_kept = sum(one.was_kept for one in arena.slow) if len(parts) == 1 else 0
            if not record.slow_let_go and not record.slow_kept:
                record.unjudged = record.unjudged or NO_OUTBOX_FILLED
        record.notes = list(arena.notes)
        self._latencies.calm = True
        words = [*arena.notes, record.unjudged] if record.unjudged else arena.notes
        back = f"all back after {record.took_s} s" if record.recovered else "not all came back"
        notes = f" ({', '.join(words)})" if words else ""
        self._tell(f"{record.name}: {back}{notes}")

    async def _strike(self, name: str, record: FaultRecord, arena: Arena) -> None:
        """Does it, until it is over."""
        try:
            async with AsyncExitStack() as stack:
                for part in name.split("+"):
                    await stack.enter_async_context(fault_of(part)(arena))
        except (Refused, Unreachable) as error:
            record.unjudged = str(error)  # it was not done, which is no promise broken

    async def _chat_pods(self, name: str) -> int:
        """How many there are to be after it; 0 when the operator is not asked."""
        if self._control is not None and (needs_control(name) or has_program(name)):
            with suppress(Refused, Unreachable):
                status = await self._control.status()
                return status.chat_replicas if same_place(status.url, self.url) else 0
        return 0

    async def _recover(self, record: FaultRecord, arena: Arena, chat_pods: int, load: Load) -> None:
        """Waits until everything is as before, what had to wait for it is sent, and everybody has that."""
        over = self._now()
        sent = await arena.until(lambda: not load.open_from_before(over), BACK_WITHIN_S)
        if not sent:
            arena.notes.append(f"{load.open_from_before(over)} sends had not ended")
        heads = load.heads()
        back = await arena.until(lambda: all(d.client.in_sync for d in arena.devices), BACK_WITHIN_S)
        if await arena.until(lambda: all(is_level(d, heads) for d in arena.devices), BACK_WITHIN_S):
            record.level_after_s = round(self._now() - over, 1)
        record.recovered = back and (not chat_pods or await arena.whole(chat_pods))

    def _judge_moves(self, record: FaultRecord, arena: Arena, started: float, ended: float) -> None:
        """Only devices that nothing but the drain befell."""
        if len(MOVING & set(record.name.split("+"))) == 1:  # of several, each may move a client
            record.moves_max = max((_moves(device, started, ended) for device in arena.devices), default=0)
        found: Counter[Breach | None] = Counter(
            breach_of(pod, seating.at_s, ended, device.recorder.losses, device.recorder.ups)
            for seating in arena.seatings
            for device, pod in seating.leavers().items()
            if device not in arena.hit
        )
        record.drained = found.total()
        record.untold, record.cut_off = found[Breach.UNTOLD], found[Breach.CUT_OFF]
        record.not_once = found[Breach.NOT_ONCE]
        if not record.drained:
            record.unjudged = record.unjudged or NOBODY_THERE

    def _reconnects(self, arena: Arena) -> list[float]:
        """From the kill until each of the pod's clients was back and in sync, in seconds."""
        took_s = []
        for device, lost_at in arena.lost_at.items():
            back_at = next((at for at, _ in device.recorder.ups if at > lost_at), None)
            took_s.append(BACK_WITHIN_S if back_at is None else back_at - lost_at)
        return took_s

    # --- the end ---

    async def _settle(self, load: Load, arena: Arena) -> Evidence:
        self._tell("settling")
        started = self._now()
        found = await settled(load.sent, arena.devices, self._read_logs, arena.until)
        self._measured.settled, self._measured.settle_s = found.in_time, self._now() - started
        return found

    async def _read_logs(self) -> dict[str, list[Event]]:
        logs: dict[str, list[Event]] = {}

        async def read(index: int) -> None:
            room = self._crowd.rooms[index]
            logs[room.channel_id] = await read_log(room.members[0].api, room.channel_id)

        await gather_limited(read, range(len(self._crowd.rooms)), 4)
        return logs

    def _collect(self, load: Load, arena: Arena) -> None:
        measured = self._measured
        for record, since, until in self._spans:
            acks = [
                sent.acked_at - sent.sent_at
                for sent in load.sent
                if sent.acked_at is not None and since <= sent.sent_at <= until
            ]
            record.slowest_ack_s = quantile(acks, 1.0)
        measured.all_ms, measured.calm_ms = self._latencies.all_ms, self._latencies.calm_ms
        measured.users, measured.devices = len(self._crowd.people), len(arena.devices)
        measured.channels = len(self._crowd.rooms)
        for device in arena.devices:
            measured.seen_live += device.recorder.live
            measured.seen_by_sync += device.recorder.synced


def _moves(device: Device, since: float, until: float) -> int:
    return sum(
        up.moved and up.reason != REBALANCING for at, up in device.recorder.ups if since <= at <= until
    )


def _every(step: int, tell: Callable[[int], None]) -> Callable[[int], None]:
    return lambda n: tell(n) if n % step == 0 else None
