"""The way in from outside, as the tests' cluster has none: a small controller of Ingresses and HTTPRoutes.

It sends each request to the Service that their rules name for its host and path, and knows nothing else of what it
carries: bytes of HTTP and of WebSockets alike.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from unittest import mock

from kubernetes.aio.client.exceptions import ApiException

from cluster.kit.api import Api, Object
from cluster.kit.ways import Rule, of_ingress, of_route

LOOK_S = 0.5
"""Between two looks at the rules: real ones take about as long."""
CHUNK_BYTES = 65_536
ABSENT = 404
BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)

Address = tuple[str, int]


class Edge:
    """Of one namespace. `name`: of its IngressClass, and of its Gateway. `taken`: how often a Service was gone to."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._rules: list[Rule] = []
        self._services: dict[str, Any] = {}
        self._serving: set[asyncio.Task[Any]] = set()
        self.taken: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        """Where it listens."""
        await self._look()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK_BYTES)
        following = asyncio.create_task(self._follow(), name="rules")
        try:
            yield server.sockets[0].getsockname()
            assert not following.done(), f"it knows no rules any more: {following}"
        finally:
            server.close()
            tasks = [following, *self._serving]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        ingresses = await self._list("/apis/networking.k8s.io/v1", "ingresses")
        routes = await self._list("/apis/gateway.networking.k8s.io/v1", "httproutes")
        rules = [rule for one in ingresses for rule in of_ingress(one, self._name)]
        rules += [rule for one in routes for rule in of_route(one, self._name)]
        # As both have it: an exact path before all others, then the longest.
        self._rules = sorted(rules, key=lambda rule: (not rule.exact, -len(rule.path)))
        self._services = {
            one["metadata"]["name"]: one["spec"] for one in await self._list("/api/v1", "services")
        }

    async def _list(self, group: str, plural: str) -> list[Object]:
        try:
            return list((await self._api.get(f"{group}/namespaces/{self._namespace}/{plural}"))["items"])
        except ApiException as error:
            if error.status != ABSENT:
                raise
            return []  # this Kubernetes does not know the kind

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with suppress(*BROKEN):
            await self._serve(reader, writer)
        self._serving.discard(task)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, with whatever follows it where it becomes a WebSocket."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {line.partition(":")[0].lower(): line for line in lines}
        host = headers.get("host", "").partition(":")[2].strip()
        path = first.split(" ")[1].partition("?")[0]
        rule = next((one for one in self._rules if one.takes(host, path)), None)
        if rule is None or rule.refused:
            writer.write(b"HTTP/1.1 %d -\r\nContent-Length: 0\r\n\r\n" % (500 if rule else ABSENT))
            return
        try:
            spec = self._services[rule.service]
            ports = {key: one["port"] for one in spec["ports"] for key in (one["port"], one["name"])}
            there, to = await asyncio.open_connection(spec["clusterIP"], ports[rule.port])
        except (OSError, LookupError):
            writer.write(b"HTTP/1.1 503 -\r\nContent-Length: 0\r\n\r\n")
            return
        self.taken[rule.service] += 1
        if "upgrade" not in headers:  # the next request may be another Service's
            headers["connection"] = "Connection: close"
        headers["x-forwarded-for"] = f"X-Forwarded-For: {writer.get_extra_info('peername')[0]}"
        to.write("\r\n".join([first, *headers.values(), "", ""]).encode("latin-1"))
        ways = [asyncio.create_task(_carry(reader, to)), asyncio.create_task(_carry(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*BROKEN):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


@contextmanager
def known_as(host: str, address: Address) -> Iterator[None]:
    """In this process the name leads there, from port 80, as DNS and a load balancer would see to it."""
    ask = socket.getaddrinfo

    def answer(name: Any, *rest: Any, **more: Any) -> Any:
        if name != host:
            return ask(name, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    with mock.patch.object(socket, "getaddrinfo", answer):
        yield
