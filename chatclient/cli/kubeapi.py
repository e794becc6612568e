"""The Kubernetes API as a person's commands need it: through their kubeconfig, with their rights."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTResponse
from kubernetes.aio.config import ConfigException, list_kube_config_contexts, load_kube_config

from chatoperator.manifests.names import GROUP, PLURAL, PORT, VERSION

Object: TypeAlias = dict[str, Any]
"""An object as the API server speaks of it."""

MANAGER = "kubectl-chat"
"""Whose the fields are that these commands write."""
DEFAULT_CONFIG = "~/.kube/config"
REQUEST_S = 20.0
ASK_S = 3.0
"""A pod that answers later does not answer: others are to be seen."""
JSON = "application/json"
MERGE = "application/merge-patch+json"


LINE_MAX_BYTES = 1024 * 1024
"""What is in a longer line behind that is left out."""
BROKEN = (aiohttp.ClientError, OSError, ValueError)
"""How a request ends badly. ValueError: no JSON."""

Query: TypeAlias = Mapping[str, str]
NOTHING: Query = {}


class KubeRefused(Exception):
    """The API server said no, or nothing. `str()` is its sentence; `status` 0: no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    query: Query = {}
    body: Object | None = None
    content_type: str = JSON


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""


def pods(namespace: str, name: str = "", part: str = "") -> str:
    """The path of pods, of one, or of something of it (`log`)."""
    return _path(f"/api/v1/namespaces/{namespace}/pods", name, part)


def clusters(namespace: str, name: str = "") -> str:
    """The path of ChatClusters; in all namespaces when none is named."""
    where = f"namespaces/{namespace}/" if namespace else ""
    return _path(f"/apis/{GROUP}/{VERSION}/{where}{PLURAL}", name)


def _path(root: str, *parts: str) -> str:
    return "/".join([root, *(quote(part, safe="") for part in parts if part)])


class Kube:
    """All methods raise KubeRefused."""

    def __init__(self, api: ApiClient, host: str, namespace: str) -> None:
        self._api, self._host = api, host
        self.namespace = namespace

    async def get(self, path: str, query: Query = NOTHING) -> Object:
        return await self._json(_Request("GET", path, query))

    async def items(self, path: str, query: Query = NOTHING) -> list[Object]:
        found: list[Object] = (await self.get(path, query)).get("items") or []
        return found

    async def patch(self, path: str, body: Object) -> Object:
        """A merge patch: null takes a field away."""
        return await self._json(_Request("PATCH", path, {"fieldManager": MANAGER}, body, MERGE))

    async def create(self, path: str, body: Object) -> Object:
        return await self._json(_Request("POST", path, {"fieldManager": MANAGER}, body))

    async def delete(self, path: str, grace_s: int | None = None) -> None:
        query = {} if grace_s is None else {"gracePeriodSeconds": str(grace_s)}
        await self._json(_Request("DELETE", path, query))

    async def ask(self, namespace: str, pod: str, what: str) -> Object | None:
        """What a pod of ours answers to `GET /what`, through the API server. None when it does not, or the person may
        not ask (`pods/proxy`)."""
        path = pods(namespace, f"{pod}:{PORT}", "proxy")
        try:
            return await self._json(_Request("GET", f"{path}/{what}"), ASK_S)
        except KubeRefused:
            return None

    async def lines(self, path: str, query: Query = NOTHING) -> AsyncIterator[str]:
        """A text that may still grow."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_S)
        try:
            async with self._answer(_Request("GET", path, query), timeout) as answer:
                async for line in _lines(answer.response.content.iter_any()):
                    yield line.decode(errors="replace")
        except BROKEN as error:
            raise KubeRefused(f"{path}: {error or type(error).__name__}") from error

    async def _json(self, request: _Request, within_s: float = REQUEST_S) -> Object:
        try:
            async with self._answer(request, aiohttp.ClientTimeout(total=within_s)) as answer:
                return msgspec.json.decode(await answer.read(), type=dict[str, Any])
        except BROKEN as error:
            raise KubeRefused(f"{self._host} does not answer: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def _answer(self, request: _Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[RESTResponse]:
        method, body = request.method, request.body
        headers = {"Accept": JSON, "Content-Type": request.content_type, "User-Agent": MANAGER}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], request.path, method, body)
        url = f"{self._host}{request.path}{'?' + urlencode(request.query) if request.query else ''}"
        answer = await self._api.rest_client.request(method, url, headers, body, _request_timeout=timeout)
        try:
            if answer.status >= 400:
                raise _refusal(await answer.read(), answer.status)
            yield answer
        finally:
            answer.response.close()


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """aiohttp's own end altogether at a line that is long."""
    line = bytearray()
    async for chunk in chunks:
        *ends, begin = chunk.split(b"\n")
        for end in ends:
            yield bytes(line + end[: LINE_MAX_BYTES - len(line)])
            line.clear()
        line += begin[: LINE_MAX_BYTES - len(line)]
    if line:
        yield bytes(line)


def _refusal(body: bytes, status: int) -> KubeRefused:
    try:
        said = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        said = _Status(body[:200].decode(errors="replace"))
    return KubeRefused(said.message or said.reason or f"the API server answered {status}", status)


@asynccontextmanager
async def reach(kubeconfig: str, context: str, namespace: str) -> AsyncIterator[Kube]:
    """By the kubeconfig (else KUBECONFIG, else the usual file), one of its contexts (else the current one), and a
    namespace (else the context's, else `default`). Raises KubeRefused."""
    file = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_CONFIG
    configuration = Configuration()
    try:
        await load_kube_config(file, context=context or None, client_configuration=configuration)
        contexts, current = list_kube_config_contexts(file)
    except (ConfigException, OSError) as error:
        raise KubeRefused(f"no way to a Kubernetes by {file}: {error}") from error
    chosen = next((one for one in contexts if one["name"] == context), current)
    own = chosen["context"].get("namespace") or "default"
    configuration.connection_pool_maxsize = 0
    api = ApiClient(configuration)
    try:
        yield Kube(api, str(configuration.host).rstrip("/"), namespace or own)
    finally:
        await api.close()
