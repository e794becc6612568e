"""Between an operator and the API server: refuses, and has a watch go silent, as the real one cannot be told to.

The operator's pods have a kubeconfig that leads here, by plain HTTP, with the token of their own account; what is not
refused goes on to the real one, and its answers come back as they are. It runs in a thread: tests wait for commands.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from chatoperator.manifests.names import FIELD_MANAGER
from cluster.kit.chat import RELEASE, Operator, operating
from cluster.kit.kubectl import Helm, Kubectl
from cluster.machine.layout import API_ADDRESS

NAME = f"{RELEASE}-chatcluster"
"""Of the operator's Deployment, its account and its Lease."""
MOUNTED = "/kubeconfig"
PASSED = ("Authorization", "Accept", "Content-Type", "User-Agent")
ANSWERED = ("Content-Type", "Retry-After")
READS = ("GET", "HEAD")
STARTED_S = 10.0
BODY_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Asked:
    """A request that was refused: when (seconds of a clock that is not set), and what of."""

    at_s: float
    method: str
    path: str
    is_ours: bool
    """By the operator's own client, and not by kopf's."""


@dataclass
class Refusal:
    """What is refused, as long as it lasts. A watch that is under way goes on."""

    status: int
    retry_after_s: int | None
    writes_only: bool
    but: str
    """A resource of which nothing is refused."""
    began: float = field(default_factory=time.monotonic)
    asked: list[Asked] = field(default_factory=list)

    def hits(self, request: web.Request) -> bool:
        is_meant = not self.writes_only or request.method not in READS
        return is_meant and not (self.but and f"/{self.but}" in request.path)

    def answer(self, request: web.Request) -> web.Response:
        is_ours = request.headers.get("User-Agent") == FIELD_MANAGER
        self.asked.append(Asked(time.monotonic(), request.method, request.path, is_ours))
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.status}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return web.json_response({**told, "message": "refused"}, status=self.status, headers=headers)

    def per_minute(self) -> float:
        """Of all that was refused until now."""
        return len(self.asked) / (time.monotonic() - self.began) * 60

    def pauses_s(self) -> list[float]:
        """Between two refusals of the same, of the operator's own."""
        last: dict[tuple[str, str], float] = {}
        found = []
        for each in self.asked:
            if each.is_ours:
                before = last.get((each.method, each.path))
                found += [] if before is None else [each.at_s - before]
                last[each.method, each.path] = each.at_s
        return found


@dataclass
class Watch:
    path: str
    silent: bool = False


class ApiProxy:
    """`url` is where it listens, for pods too."""

    def __init__(self, kubeconfig: Path) -> None:
        told = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        self._to = str(told["server"]).rstrip("/")
        ca = base64.b64decode(told["certificate-authority-data"]).decode()
        self._trust = ssl.create_default_context(cadata=ca)
        self._refusal: Refusal | None = None
        self._watches: list[Watch] = []
        self.url = ""

    # -- what a test does to it

    @contextmanager
    def refusing(
        self, status: int, *, retry_after_s: int | None = None, writes_only: bool = False, but: str = ""
    ) -> Iterator[Refusal]:
        refusal = self._refusal = Refusal(status, retry_after_s, writes_only, but)
        try:
            yield refusal
        finally:
            self._refusal = None

    def silence(self, path: str) -> None:
        """The one watch of that collection stays open and says nothing more. Whoever begins another hears."""
        (found,) = [watch for watch in list(self._watches) if watch.path.endswith(path)]
        found.silent = True

    # -- inside

    @contextmanager
    def serving(self) -> Iterator[ApiProxy]:
        loop, started = asyncio.new_event_loop(), threading.Event()
        stop = asyncio.Event()

        async def serve() -> None:
            async with self._listening():
                started.set()
                await stop.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="API proxy")
        thread.start()
        try:
            assert started.wait(STARTED_S), "the proxy does not start"
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=BODY_MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._trust), timeout=timeout
        ) as self._session:
            await runner.setup()
            await web.TCPSite(runner, API_ADDRESS, 0).start()
            self.url = f"http://{API_ADDRESS}:{runner.addresses[0][1]}"
            try:
                yield
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal
        if refusal is not None and refusal.hits(request):
            return refusal.answer(request)
        headers = {name: request.headers[name] for name in PASSED if name in request.headers}
        to = URL(f"{self._to}{request.raw_path}", encoded=True)
        body = await request.read()
        async with self._session.request(request.method, to, headers=headers, data=body or None) as answer:
            told = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
            if answer.status == 200 and "watch" in request.query:
                return await self._stream(request, answer, told)
            return web.Response(status=answer.status, headers=told, body=await answer.read())

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        watch, response = Watch(request.path), web.StreamResponse(headers=headers)
        self._watches.append(watch)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if not watch.silent:
                    await response.write(chunk)
            if watch.silent:  # not even that it has ended is heard
                await asyncio.Event().wait()
            return response
        finally:
            self._watches.remove(watch)


@contextmanager
def operating_through_proxy(
    helm: Helm, kubectl: Kubectl, namespaces: Sequence[str] = ()
) -> Iterator[tuple[Operator, ApiProxy]]:
    """An operator whose every word to the API server goes through a proxy."""
    # None of it runs before its way is another; its policy knows only that of before.
    values = {"replicas": 0, "networkPolicy": {"enabled": False}}
    with (
        ApiProxy(Path(os.environ["KUBECONFIG"])).serving() as proxy,
        operating(helm, kubectl, namespaces, **values) as operator,
    ):
        token = kubectl("create", "token", NAME, "--duration=1h").strip()
        text = json.dumps(_kubeconfig(proxy.url, token))
        kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": NAME},
                "stringData": {"config": text},
            }
        )
        kubectl("patch", "deployment", NAME, f"--patch={json.dumps(_by_kubeconfig())}")
        kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=90s")
        yield operator, proxy


def _kubeconfig(url: str, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }


def _by_kubeconfig() -> dict[str, object]:
    container = {
        "name": "operator",
        "env": [{"name": "KUBECONFIG", "value": f"{MOUNTED}/config"}],
        "volumeMounts": [{"name": "kubeconfig", "mountPath": MOUNTED, "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "kubeconfig", "secret": {"secretName": NAME}}],
    }
    return {"spec": {"replicas": 2, "template": {"spec": pod}}}
