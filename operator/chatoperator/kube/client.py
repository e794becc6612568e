"""The API server as the operator speaks to it: a few verbs, each with a time-out, its errors translated.

On the library's transport and logins, and not on its typed calls: what is sent are the manifests as they were built,
and what comes back is stored as it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from chatoperator.kube.errors import KubeError, TooManyRequests, Unreachable, error_of
from chatoperator.kube.kinds import Kind, Object, kind_of, name_of, namespace_of
from chatoperator.manifests.names import FIELD_MANAGER

REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
AT_ONCE_MAX = 16
"""Requests under way at once, besides watches: hundreds of clusters must not fall on the API server together."""
PAGE_ITEMS = 500
BUSY_TRIES = 3
"""How often a request is made that is answered with 429."""
BUSY_WAIT_MAX_S = 32.0
"""The API server's own fairness names no longer time."""
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"


class Selection(msgspec.Struct, frozen=True):
    """Which objects of a kind, and how much of them. `namespace` "": all."""

    kind: Kind
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    metadata_only: bool = False


class Change(NamedTuple):
    """OPENED when the API server has taken the watch, and then ADDED, MODIFIED, DELETED or BOOKMARK with the object
    (of a bookmark, its resource version)."""

    type: str
    object: Object


class _WatchLine(msgspec.Struct):
    type: str
    object: dict[str, Any]


_line = msgspec.json.Decoder(_WatchLine)
NO_STREAM = (aiohttp.ClientError, OSError, ValueError, msgspec.DecodeError)
"""How a watch ends badly. ValueError: a line beyond aiohttp's limit."""
Guard = Callable[[], None]


class _Request(NamedTuple):
    verb: str
    kind: Kind
    path: str
    query: Mapping[str, str]
    method: str = "GET"
    body: Object | None = None
    content_type: str = JSON
    accept: str = JSON

    @property
    def words(self) -> str:
        """For people: `apply services team/talk-api`."""
        of = self.path.rpartition(self.kind.plural)[2].strip("/")
        where = self.path.partition("namespaces/")[2].partition("/")[0]
        return f"{self.verb} {self.kind.plural} {where + '/' if where else ''}{of}".strip()


def _anybody() -> None:
    """Without a Lease everybody may write."""


class KubeClient:
    """All methods raise KubeError. `guard` is asked right before everything that changes something, and raises when
    it must not happen any more: between a decision and its request this process may have been frozen."""

    def __init__(self, configuration: Configuration) -> None:
        # A watch is a connection, and there are as many as kinds times namespaces; requests have their own limit.
        configuration.connection_pool_maxsize = 0
        self._api = ApiClient(configuration)
        self._host = str(configuration.host).rstrip("/")
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._busy_until = 0.0
        self.guard: Guard = _anybody
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By verb, kind and status (0: no answer): for `/metrics`."""

    async def aclose(self) -> None:
        await self._api.close()

    def guard_now(self) -> None:
        """For what is changed elsewhere than at the API server. Raises what `guard` raises."""
        self.guard()

    # -- reading

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._request("get", kind, kind.path(namespace, name))

    async def list(self, selection: Selection) -> tuple[list[Object], str]:
        """Everything, page by page, and the resource version to watch from."""
        kind, items, more = selection.kind, list[Object](), ""
        while True:
            query = _query(selection) | {"limit": str(PAGE_ITEMS)} | ({"continue": more} if more else {})
            accept = METADATA_LIST if selection.metadata_only else JSON
            page = await self._request("list", kind, kind.path(selection.namespace), query, accept=accept)
            items += page.get("items") or []
            more = page["metadata"].get("continue", "")
            if not more:
                return items, str(page["metadata"]["resourceVersion"])

    async def watch(
        self, selection: Selection, since: str, for_s: int, silence_s: float
    ) -> AsyncIterator[Change]:
        """Changes after the resource version, for at most `for_s`. Raises Expired when it is too old, and Unreachable
        when nothing, not even a bookmark, came for `silence_s`."""
        kind = selection.kind
        query = _query(selection) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(for_s),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        accept = METADATA if selection.metadata_only else JSON
        request = _Request("watch", kind, kind.path(selection.namespace), query, accept=accept)
        try:
            await self._until_less_busy()
            answer = await self._send(request, timeout)
            try:
                self.requests["watch", kind.plural, answer.status] += 1
                if answer.status >= 400:
                    raise self._error(request.words, answer, await answer.read())
                yield Change("OPENED", {})
                async for line in answer.response.content:
                    yield _change(request.words, line)
            finally:
                answer.response.close()
        except NO_STREAM as error:
            raise Unreachable(f"{request.words}: {_words(error)}") from error

    # -- writing

    async def apply(self, manifest: Object) -> Object:
        """Server-side apply: the fields named are ours from now on, whoever had them. Returns what is there now."""
        kind = kind_of(manifest)
        return await self._request(
            "apply",
            kind,
            kind.path(namespace_of(manifest), name_of(manifest)),
            {"fieldManager": FIELD_MANAGER, "force": "true"},
            method="PATCH",
            body=manifest,
            content_type=APPLY,
        )

    async def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """`dry_run`: nothing is made; it only shows whether it could be."""
        kind = kind_of(manifest)
        path = kind.path(namespace_of(manifest))
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._request("create", kind, path, query, method="POST", body=manifest)

    async def replace(self, manifest: Object) -> Object:
        """The whole object, if its resource version is still that of the manifest: else Conflict."""
        kind = kind_of(manifest)
        path = kind.path(namespace_of(manifest), name_of(manifest))
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("update", kind, path, query, method="PUT", body=manifest)

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        """A merge patch: null takes a field away."""
        return await self._request(
            "patch",
            kind,
            kind.path(namespace, name, subresource),
            {"fieldManager": FIELD_MANAGER},
            method="PATCH",
            body=body,
            content_type=MERGE,
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, grace_s: float | None = None
    ) -> Object:
        """That object, and not another that has its name by now: then Conflict. Dependents go in the background."""
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        if grace_s is not None:
            options["gracePeriodSeconds"] = round(grace_s)
        path = kind.path(namespace, name)
        return await self._request("delete", kind, path, method="DELETE", body=options)

    # -- inside

    async def _request(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] = {},
        *,
        method: str = "GET",
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """Again if the API server says that it is too busy."""
        request = _Request(verb, kind, path, query, method, body, content_type, accept)
        for tries_left in reversed(range(BUSY_TRIES)):
            try:
                async with self._at_once:
                    await self._until_less_busy()
                    return await self._once(request)
            except TooManyRequests:
                if not tries_left:
                    raise
        raise AssertionError

    async def _until_less_busy(self) -> None:
        """It counts all requests of an account together: what it says to one holds for all."""
        while (left_s := self._busy_until - time.monotonic()) > 0:  # noqa: ASYNC110 - it may have grown meanwhile
            await asyncio.sleep(left_s)

    async def _once(self, request: _Request) -> Object:
        if request.method != "GET":
            self.guard()
        status = 0
        try:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
            answer = await self._send(request, timeout)
            try:
                raw, status = await answer.read(), answer.status
            finally:
                answer.response.release()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Unreachable(f"{request.words}: {_words(error)}") from error
        finally:
            self.requests[request.verb, request.kind.plural, status] += 1
        if status >= 400:
            raise self._error(request.words, answer, raw)
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Unreachable(f"{request.words}: the answer is not JSON: {error}") from error

    async def _send(self, request: _Request, timeout: aiohttp.ClientTimeout) -> RESTResponse:
        method, path, query, body = request.method, request.path, request.query, request.body
        headers = {
            "Accept": request.accept,
            "Content-Type": request.content_type,
            "User-Agent": FIELD_MANAGER,
        }
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._host}{path}{'?' + urlencode(query) if query else ''}"
        answer: RESTResponse = await self._api.rest_client.request(
            method, url, headers, body, _request_timeout=timeout
        )
        return answer

    def _error(self, what: str, answer: RESTResponse, body: bytes) -> KubeError:
        error = error_of(what, answer.status, body, answer.getheader("Retry-After"))
        if isinstance(error, TooManyRequests):
            wait_s = min(error.retry_after_s, BUSY_WAIT_MAX_S)
            self._busy_until = max(self._busy_until, time.monotonic() + wait_s)
        return error


async def connect(environ: Mapping[str, str] = os.environ) -> KubeClient:
    """By the kubeconfig that KUBECONFIG names, or as the ServiceAccount of the pod that this runs in.

    Raises KubeError when there is neither."""
    configuration = Configuration()
    try:
        if environ.get("KUBECONFIG") or not environ.get("KUBERNETES_SERVICE_HOST"):
            await load_kube_config(environ.get("KUBECONFIG"), client_configuration=configuration)
        else:
            load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise KubeError(f"no way to the API server: {error}") from error
    return KubeClient(configuration)


def _query(selection: Selection) -> dict[str, str]:
    named = {"labelSelector": selection.labels, "fieldSelector": selection.fields}
    return {key: value for key, value in named.items() if value}


def _change(what: str, line: bytes) -> Change:
    read = _line.decode(line)
    if read.type == "ERROR":
        raise error_of(what, int(read.object.get("code", 500)), msgspec.json.encode(read.object), None)
    return Change(read.type, read.object)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
