"""A whole cluster on one machine: the operator's loop over child processes, an embedded Redis and SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from chatkernel.errors import ChatError
from chatkernel.keys import PRESENCE_MARK, PRESENCE_SHARDS, Keys
from chatkernel.redis_client import connect, execute
from chatkernel.redis_url import parse_redis_url
from chatkernel.registry import Registry
from chatkernel.storage.url import shown_url
from chatoperator.accounts import Account, AccountsError, ensure_accounts, read_accounts
from chatoperator.again import Again
from chatoperator.control import ControlError, ControlServer, Request
from chatoperator.datadir import MARKER_ENV, UpError, starting
from chatoperator.display import Display
from chatoperator.embedded import EmbeddedRedis
from chatoperator.givenredis import Claim, Owner, check_version
from chatoperator.laptop import HOST, Ground
from chatoperator.local import LocalPlace, PodFiles
from chatoperator.localpod import LocalPod
from chatoperator.logfiles import bound_log
from chatoperator.minihttp import PodHttp
from chatoperator.model import PodKind
from chatoperator.podsettings import Surroundings
from chatoperator.reconcile import Reconciler
from chatoperator.registry_port import RedisRegistry
from chatoperator.schemajob import PLACEMENT_ENV, REFUSED, STORE_ENV
from chatoperator.spec import Spec
from chatoperator.status import cluster_phase, is_ready, pod_phase
from chatoperator.storesource import placement

log = logging.getLogger(__name__)

TICK_S = 0.5
LOG_CHECK_TICKS = 20
SLOW_START_S = 3.0
STOP_GRACE_S = 2.0
REPLICAS_MAX = 1000


class LaptopCluster:
    """The running cluster."""

    def __init__(self, ground: Ground) -> None:
        self.options, self.data, self.source = ground.options, ground.data, ground.source
        self.launcher, self.url, self.started = ground.launcher, ground.url, ground.started
        self.terminal, self.leftovers = ground.terminal, ground.leftovers
        self.display = Display(self.data.logs / "operator.log", as_json=self.options.as_json)
        self.stop = asyncio.Event()
        self.online: int | None = None
        self.was_ready = False
        self.claim: Claim | None = None

    async def run(self) -> None:
        """Raises UpError."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            with starting(self.data.root):
                await self._begin(stack)
            await self._work()

    async def _begin(self, stack: contextlib.AsyncExitStack) -> None:
        """All parts, each with its end on the stack. Raises UpError and OSError."""
        stack.enter_context(self.display())
        if self.leftovers:
            log.warning("ended processes that a killed run had left", extra={"pods": self.leftovers})
        resource = self.source.current
        self.keys = Keys(resource.spec.redis.key_prefix, resource.metadata.name)
        self.embedded = self._embedded_redis()
        redis_url = self.embedded.url if self.embedded else str(self.source.fixed.redis_url)
        self.redis = connect(redis_url)
        stack.push_async_callback(self.redis.aclose)
        if self.embedded is not None:
            stack.push_async_callback(self.embedded.aclose)
            await self.embedded.start()
        else:
            await check_version(self.redis, redis_url)
            me = Owner(self.data.load_owner_id(), f"{socket.gethostname()}:{self.data.root}")
            self.claim = Claim(self.redis, self.keys, me)
            await self.claim.take(self.source.current.metadata.name, redis_url)
            stack.push_async_callback(self.claim.release)
        self.place = self._place(redis_url)
        self.place.follow(resource.spec)
        stack.push_async_callback(self._end_pods)
        self.reconciler = Reconciler(
            self.place, RedisRegistry(Registry(self.redis, self.keys)), lambda: self.source.current
        )
        self.place.changed = self.reconciler.wake
        control = ControlServer(self.data.make_control_socket(), self.handle)
        await control.start()
        stack.push_async_callback(control.aclose)

    async def _work(self) -> None:
        """Until told to stop, or until a part of the operator itself fails."""
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("reconcile", self._reconcile()),
                ("tick", self._tick()),
                ("welcome", self._welcome()),
                ("stop", self._until_stop()),
            )
        ]
        try:
            pending = set(tasks)
            while pending and not self.stop.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self.stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.display.end_table()

    async def _until_stop(self) -> None:
        await self.stop.wait()

    @contextlib.contextmanager
    def _signals(self) -> Any:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if not self.terminal.is_outlived:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.stop.set)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    # -- parts

    def _embedded_redis(self) -> EmbeddedRedis | None:
        if self.source.fixed.redis_url is not None:
            return None
        return EmbeddedRedis(
            self.data.run,
            self.data.logs,
            marker=(MARKER_ENV, str(self.data.root)),
            on_pid=self.data.note_pid,
        )

    def _place(self, redis_url: str) -> LocalPlace:
        secrets = self.data.load_secrets()
        self.store_url = self.source.fixed.store_url or f"sqlite:///{self.data.database}"
        around = Surroundings(
            redis_url=redis_url,
            store_url=self.store_url,
            secret_file=str(self.data.secrets),
            api_url=self.url,
            live_file=str(self.data.run / "live.json"),
        )
        files = PodFiles(settings=self.data.run, logs=self.data.logs, names=self.data.names)
        return LocalPlace(files, around, secrets, self.launcher)

    async def _end_pods(self) -> None:
        log.info("stopping")
        await self.place.aclose(STOP_GRACE_S)

    # -- while it runs

    async def _reconcile(self) -> None:
        waiting = asyncio.get_running_loop().call_later(
            SLOW_START_S, log.info, "still waiting for the store's tables"
        )
        await self._ensure_schema()
        waiting.cancel()
        await self.reconciler.run(self.stop)

    async def _ensure_schema(self) -> None:
        """Before any pod: services do not start without the store's tables. Raises UpError."""
        told = ""
        wanted = msgspec.json.encode(placement(self.source.current.spec)).decode()
        job = {STORE_ENV: self.store_url, PLACEMENT_ENV: wanted}
        while True:
            try:
                code = await self.launcher.run_schema_job(job)
                said = (self.data.logs / "schema.log").read_text(errors="replace").splitlines()[-1:]
            except OSError as error:
                code, said = 1, [str(error)]
            if code == 0:
                return
            problem = said[0] if said else f"exit code {code}"
            if code == REFUSED or (not told and self.source.fixed.store_url is not None):
                # Whoever gave it hears at once that it is not there, as with Redis. A file of ours may be locked.
                raise UpError(f"the store at {shown_url(self.store_url)} cannot be used: {problem}")
            if problem != told:
                log.warning("the store is not ready", extra={"error": problem})
            told = problem
            await asyncio.sleep(2 * TICK_S)

    async def _tick(self) -> None:
        ticks, again = 0, Again()
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            terminal_is_gone = self.terminal.is_gone()
            if terminal_is_gone and not self.terminal.is_outlived:
                log.info("the terminal was closed")
                self.stop.set()
                return
            with again("looking at the file"):
                if self.source.poll():
                    self.reconciler.wake()
            with again("writing the live settings"):
                self.place.follow(self.source.current.spec)
            if ticks % LOG_CHECK_TICKS == 0:
                self._bound_logs(again)
            if ticks % 2 == 0:
                await self._ask_redis(again)
            with again("showing the table"):
                if self.was_ready and not terminal_is_gone:
                    self.display.show(self.status())

    def _bound_logs(self, again: Again) -> None:
        with again("looking for long logs"):
            for file in self.data.logs.glob("*.log"):
                with again(f"cutting {file.name}"):
                    bound_log(file)

    async def _ask_redis(self, again: Again) -> None:
        with again("counting who is online"):
            self.online = await self._count_online()
        with again("renewing the claim on Redis"), contextlib.suppress(ChatError):
            if self.claim is not None:
                await self.claim.renew()

    async def _count_online(self) -> int | None:
        """People whose last lease has not run out; None when Redis does not answer."""
        now_ms = int(time.time() * 1000)
        commands = [
            ("ZCOUNT", self.keys.presence_expiry(shard), now_ms, f"({PRESENCE_MARK}")
            for shard in range(PRESENCE_SHARDS)
        ]
        try:
            counts: list[int] = await execute(self.redis, commands, TICK_S)
            return sum(counts)
        except ChatError:
            return None

    async def _welcome(self) -> None:
        await self.reconciler.until(lambda observed: is_ready(self.source.current.spec, observed))
        accounts = read_accounts(self.data.accounts)
        http = PodHttp(HOST, int(self.url.rpartition(":")[2]))
        try:
            if self.source.current.spec.auth.own_accounts:
                accounts = await ensure_accounts(self.data.accounts, http)
        except (AccountsError, OSError) as error:
            log.warning("the two ready accounts could not be made", extra={"error": str(error)})
        finally:
            http.close()
        self.was_ready = True
        took_s = time.monotonic() - self.started
        log.info("ready", extra={"took_ms": round(took_s * 1000)})
        self.display.welcome(self.status(), self._welcome_lines(accounts, took_s))

    def _welcome_lines(self, accounts: dict[str, Account], took_s: float) -> list[str]:
        program = self.options.program
        name = self.source.current.metadata.name
        lines = [f"{name} is ready at {self.url} after {took_s:.1f} s; its data is in {self.data.root}", ""]
        if accounts:
            lines += ["Two people are there, and friends:"]
            lines += [f"  {who:<6} password {account.password}" for who, account in accounts.items()]
            lines += ["", "Try, in other terminals:"]
            option = self.options.data_option
            lines += [f"  {program} listen --as alice{option}"]
            lines += [f'  {program} send --as bob{option} alice "hello"']
            lines += [f"  {program} drill --quick{option}"]
        return lines

    # -- what can be asked for

    def status(self) -> dict[str, Any]:
        observed, spec, now = self.reconciler.observed, self.source.current.spec, time.monotonic()
        return {
            "cluster": self.source.current.metadata.name,
            "url": self.url,
            "phase": cluster_phase(spec, observed, was_ready=self.was_ready),
            "problem": self.source.problem,
            "data": str(self.data.root),
            "pods": [
                {
                    "name": pod.name,
                    "kind": str(pod.kind),
                    "phase": pod_phase(pod.view(), now),
                    "revision": pod.revision,
                    "port": pod.port,
                    "pid": pod.pid,
                    "connections": pod.view().connections,
                    "messages_per_s": round(pod.messages_per_s, 1),
                    "restarts": pod.restarts,
                    "age_s": round(now - pod.started_at, 1),
                    "rss_kib": pod.stats.get("rss_kib"),
                    "cpu_s": pod.stats.get("cpu_s"),
                    "degraded": pod.stats.get("degraded", []),
                }
                for pod in sorted(self.place.pods.values(), key=_order)
            ],
            "restarts": {str(kind): count for kind, count in self.place.restarts.items()},
            "redis": {
                "state": "up" if observed.registry is not None else "down",
                "embedded": self.embedded is not None,
                "pid": self.embedded.pid if self.embedded else None,
                "restarts": self.embedded.restarts if self.embedded else 0,
            },
            "store": {"url": shown_url(self.store_url)},
            "presence": {"online": self.online},
            "spec": _shown(self.source.current.spec),
        }

    async def handle(self, request: Request) -> dict[str, Any]:
        """One control request. Raises ControlError, PlaceError."""
        if request.do == "status":
            return self.status()
        if request.do == "stop":
            self.stop.set()
            return {}
        if request.do == "scale":
            return self._scale(request.replicas)
        if request.do == "redis":
            return await self._disturb_redis(request.action)
        if not request.pod:
            raise ControlError(f"{request.do} needs a pod")
        orders: dict[str, Callable[[str], None]] = {
            "drain": self.place.condemn,
            "undrain": self.place.pardon,
            "kill": lambda pod: self.place.signal(pod, signal.SIGKILL),
            "freeze": lambda pod: self.place.signal(pod, signal.SIGSTOP),
            "thaw": lambda pod: self.place.signal(pod, signal.SIGCONT),
        }
        orders[request.do](request.pod)
        log.info("by hand", extra={"of": request.pod, "reason": request.do})
        return {"pod": request.pod}

    def _scale(self, replicas: int | None) -> dict[str, Any]:
        if replicas is None or not 1 <= replicas <= REPLICAS_MAX:
            raise ControlError(f"scale needs a number of replicas from 1 to {REPLICAS_MAX}")
        self.source.scale(replicas)
        log.info("by hand", extra={"reason": f"scale to {replicas}"})
        self.reconciler.wake()
        return {"replicas": replicas}

    async def _disturb_redis(self, action: str | None) -> dict[str, Any]:
        if self.embedded is None:
            raise ControlError("this cluster does not run its own Redis")
        if action is None:
            raise ControlError("redis needs an action: kill, flush, stop or cont")
        if action == "flush":
            try:
                await self.embedded.flush()
            except ChatError as error:
                raise ControlError(str(error)) from error
        else:
            numbers = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "cont": signal.SIGCONT}
            self.embedded.signal(numbers[action])
        log.info("by hand", extra={"of": "redis", "reason": action})
        return {"action": action}


def _shown(spec: Spec) -> Any:
    """The spec without the passwords of Redis and of the store."""
    replace = msgspec.structs.replace
    if spec.mongodb is not None and spec.mongodb.url is not None:
        spec = replace(spec, mongodb=replace(spec.mongodb, url=shown_url(spec.mongodb.url)))
    if spec.postgresql is not None and spec.postgresql.url is not None:
        spec = replace(spec, postgresql=replace(spec.postgresql, url=shown_url(spec.postgresql.url)))
    if spec.redis.url is not None:
        spec = replace(spec, redis=replace(spec.redis, url=parse_redis_url(spec.redis.url).shown))
    return msgspec.to_builtins(spec)


def _order(pod: LocalPod) -> tuple[int, float]:
    return list(PodKind).index(pod.kind), pod.started_at
