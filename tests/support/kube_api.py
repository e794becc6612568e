"""A small API server that can be made to misbehave: what a real one cannot be told to do.

It keeps objects, numbers every change, and streams them to watches; of the rules of Kubernetes it knows only resource
versions, UIDs and merge patches, and applies as it merges. What depends on more is tested on a real one
(`tests/cluster/`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import kopf
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from chatoperator.kube.client import APPLY, KubeClient
from chatoperator.manifests.names import GROUP, PLURAL, VERSION

Object = dict[str, Any]


def _resource(plural: str, kind: str, *, namespaced: bool) -> Object:
    verbs = ["get", "list", "watch", "patch"]
    about = {"name": plural, "singularName": kind.lower(), "kind": kind}
    return {"resources": [{**about, "namespaced": namespaced, "verbs": verbs}]}


_VERSIONS = {"versions": [{"version": VERSION}], "preferredVersion": {"version": VERSION}}
DISCOVERY: dict[str, Object] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": _resource("namespaces", "Namespace", namespaced=False),
    "/apis": {"groups": [{"name": GROUP, **_VERSIONS}]},
    f"/apis/{GROUP}/{VERSION}": _resource(PLURAL, "ChatCluster", namespaced=True),
}
"""What kopf asks for before it watches."""


class KubeApi:
    """`url` is where it listens. `seen`: every request, as method and path."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        """By path."""
        self.seen: list[tuple[str, str]] = []
        self.silent = False
        """Watches are taken, and say nothing."""
        self.busy: list[str] = []
        """Retry-After of the next requests, which are answered with 429."""
        self.forbidden: dict[tuple[str, str], str] = {}
        """What is said, with 403, to requests of this method whose path ends so."""
        self.broken: set[str] = set()
        """Requests whose path ends so are answered with 500."""
        self.closed: set[str] = set()
        """Namespaces in which nothing is allowed, as in one that is gone, and its RoleBinding with it."""
        self.stand_still: asyncio.Event | None = None
        """No request is answered before this is set."""
        self._versions = itertools.count(100)
        self._version = 99
        self._forgotten = 0
        self._watches: list[tuple[str, asyncio.Queue[tuple[str, Object] | None]]] = []
        self._history: list[tuple[int, str, str, Object]] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[KubeApi]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.interrupt()
            await runner.cleanup()

    def log_in(self) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=self.url)

    def client(self) -> KubeClient:
        configuration = Configuration()
        configuration.host = self.url
        return KubeClient(configuration)

    # -- what a test does to it

    def put(self, path: str, content: Object, *, told: bool = True) -> Object:
        """`told`: watches hear of it."""
        self._version = next(self._versions)
        before = self.objects.get(path)
        name = path.rpartition("/")[2]
        meta = {
            "name": name,
            "uid": before["metadata"]["uid"] if before else f"uid-{self._version}",
            **content.get("metadata", {}),
            "resourceVersion": str(self._version),
        }
        parts = path.split("/")
        if "namespaces" in parts:
            meta["namespace"] = parts[parts.index("namespaces") + 1]
        stored = {**content, "metadata": meta}
        self.objects[path] = stored
        self._tell("MODIFIED" if before else "ADDED", path, stored, told)
        return stored

    def remove(self, path: str, *, told: bool = True) -> None:
        self._version = next(self._versions)
        gone = self.objects.pop(path)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", path, gone, told)

    def interrupt(self) -> None:
        """Ends all watches."""
        for _, queue in self._watches:
            queue.put_nowait(None)

    def forget(self) -> None:
        """What happened so far cannot be watched any more: 410."""
        self._forgotten = self._version

    def asked(self, method: str, part: str) -> int:
        return sum(method == seen and part in path for seen, path in self.seen)

    def is_watched(self, path: str) -> bool:
        """Whether somebody would hear of a change of this object."""
        return any(path.startswith(prefix) for prefix, _ in self._watches)

    # -- inside

    def _tell(self, kind: str, path: str, content: Object, told: bool) -> None:
        if told:
            self._history.append((self._version, kind, path, content))
            for prefix, queue in self._watches:
                if path.startswith(prefix):
                    queue.put_nowait((kind, content))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        if self.stand_still is not None:
            await self.stand_still.wait()
        if self.busy:
            return _status(429, "too busy", {"Retry-After": self.busy.pop(0)})
        for (method, end), said in self.forbidden.items():
            if request.method == method and request.path.endswith(end):
                return _status(403, said)
        if request.path.endswith(tuple(self.broken)):
            return _status(500, "broken")
        if self.closed & set(request.path.split("/")):
            return _status(403, "forbidden")
        path = request.path.removesuffix("/status")
        is_list = len(path.partition("/namespaces/")[2].split("/")) == 2 or path.endswith("/nodes")
        if request.method == "GET" and is_list:
            return await (self._watch(request) if "watch" in request.query else self._list(path))
        if request.method == "GET":
            return _found(DISCOVERY.get(path) or self.objects.get(path))
        body = json.loads(await request.read() or b"{}")
        if "dryRun" in request.query:
            return _found(body)
        is_apply = request.content_type == APPLY
        return self._write(request.method, path, body, may_make=is_apply)

    def _write(self, method: str, path: str, body: Object, *, may_make: bool) -> web.Response:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            return _status(409, "exists") if path in self.objects else _found(self.put(path, body))
        present = self.objects.get(path)
        if method == "PATCH" and "/controllerrevisions/" in path and present is not None:
            # The real one writes a revision's data anew with every patch, and then finds them changed.
            return _status(422, f"{path}: data: Invalid value: field is immutable")
        if method == "PATCH" and present is None and may_make:
            if body["metadata"].get("uid"):
                return _status(409, "uid mismatch: no existing object was found")
            return _found(self.put(path, body))
        if present is None:
            return _status(404, "not found")
        if method == "PATCH":
            guards = {key: body.get("metadata", {}).get(key) for key in ("uid", "resourceVersion")}
            if any(value not in (None, present["metadata"][key]) for key, value in guards.items()):
                return _status(409, "another one, or changed meanwhile")
            merged = _merged(present, body)
            return _found(present if merged == present else self.put(path, merged))
        if method == "DELETE":
            if body.get("preconditions", {}).get("uid") != present["metadata"]["uid"]:
                return _status(409, "another one")
            self.remove(path)
            return _found(present)
        if body["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            return _status(409, "changed meanwhile")
        return _found(self.put(path, body))

    async def _list(self, path: str) -> web.Response:
        items = [found for where, found in self.objects.items() if where.startswith(f"{path}/")]
        about = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": str(self._version)}}
        return web.json_response({**about, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since, prefix = int(request.query["resourceVersion"]), f"{request.path}/"
        if since < self._forgotten:
            return _status(410, "too old")
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[tuple[str, Object] | None] = asyncio.Queue()
        for version, kind, path, content in self._history:
            if version > since and path.startswith(prefix):
                queue.put_nowait((kind, content))
        self._watches.append((prefix, queue))
        try:
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                while (change := await queue.get()) is not None:
                    if not self.silent:
                        line = json.dumps({"type": change[0], "object": change[1]})
                        await answer.write(line.encode() + b"\n")
        except (TimeoutError, ConnectionResetError):
            pass
        finally:
            self._watches.remove((prefix, queue))
        return answer


def _status(code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message, "code": code}, status=code, headers=headers)


def _found(content: Object | None) -> web.Response:
    return _status(404, "not found") if content is None else web.json_response(content)


def _merged(before: Object, change: Object) -> Object:
    merged = dict(before)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged


def kubeconfig(server: str) -> Object:
    """For whoever comes in by one."""
    context = {"cluster": "c", "user": "u"}
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }


async def eventually(holds: Any, within_s: float = 10.0) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)
