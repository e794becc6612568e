"""The API server as a program sees it: requests by path, and waiting for what a watch tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

Object = dict[str, Any]
Objects = Mapping[str, Object]
"""By name."""

MERGE, APPLY, JSON = "application/merge-patch+json", "application/apply-patch+yaml", "application/json"
REQUEST_S = 30.0
AGAIN_S = 0.2
GONE, TOO_MANY = 410, 429


class Api:
    """`client` is kubernetes.aio's, for who wants its types."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content: str = JSON,
    ) -> Any:
        """The answer, decoded; raises `ApiException`, whose `status` is HTTP's."""
        response = await self._send(method, path, body, query, content, REQUEST_S)
        return json.loads(await response.read())

    async def get(self, path: str) -> Any:
        return await self.request("GET", path)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """A merge patch."""
        return await self.request("PATCH", path, dict(body), content=MERGE)

    async def apply(self, path: str, body: Mapping[str, Any], manager: str = "tests") -> Any:
        """Server-side, with force."""
        return await self.request(
            "PATCH", path, dict(body), {"fieldManager": manager, "force": "true"}, content=APPLY
        )

    async def scale(self, path: str, replicas: int) -> Any:
        """By the subresource, as HPA and KEDA do."""
        return await self.patch(f"{path}/scale", {"spec": {"replicas": replicas}})

    async def evict(self, namespace: str, pod: str) -> None:
        """As `kubectl drain` does; raises `ApiException` 429 where a budget forbids it now."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        await self.request("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", eviction)

    async def evicted(self, namespace: str, pod: str) -> bool:
        """Whether a budget allows it now."""
        try:
            await self.evict(namespace, pod)
        except ApiException as error:
            if error.status != TOO_MANY:
                raise
            return False
        return True

    async def until(
        self, path: str, holds: Callable[[Objects], object], within_s: float = 60.0, what: str = ""
    ) -> Objects:
        """Waits until a condition on a collection's objects holds; looks whenever one of them changes.

        `path` may carry a selector (`...?labelSelector=a%3Db`). An API server that is away is waited for, too.
        """
        state: dict[str, Object] = {}
        try:
            async with asyncio.timeout(within_s):
                while True:
                    with suppress(ApiException, aiohttp.ClientError, OSError):
                        async for state in self._states(path):
                            if holds(state):
                                return state
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            seen = json.dumps({name: _told(each) for name, each in state.items()}, indent=1)
            raise AssertionError(f"not within {within_s:g} s: {what or path}; there was {seen}") from None

    async def _states(self, path: str) -> AsyncIterator[dict[str, Object]]:
        """The collection as it is, and again after every change, until the watch ends."""
        path, _, selector = path.partition("?")
        listed = await self.get(f"{path}?{selector}")
        state = {each["metadata"]["name"]: each for each in listed["items"]}
        yield state
        version = listed["metadata"]["resourceVersion"]
        asked = f"{path}?watch=1&resourceVersion={version}&{selector}"
        response = await self._send("GET", asked, None, None, JSON, 3600.0)
        try:
            async for line in response.response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                name = event["object"]["metadata"]["name"]
                if event["type"] == "DELETED":
                    state.pop(name, None)
                else:
                    state[name] = event["object"]
                yield state
        finally:
            response.response.close()

    async def _send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        content: str,
        timeout_s: float,
    ) -> Any:
        headers = {"Content-Type": content, "Accept": JSON}
        asked = await self.client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        response: Any = await self.client.call_api(*asked, _request_timeout=timeout_s)
        if response.status >= 400:
            told = (await response.read()).decode(errors="replace")
            raise ApiException(status=response.status, reason=told)
        return response


@asynccontextmanager
async def connected() -> AsyncIterator[Api]:
    """To the cluster of KUBECONFIG."""
    client = await config.new_client_from_config()
    try:
        yield Api(client)
    finally:
        await client.close()


async def eventually(condition: Callable[[], Awaitable[object]], within_s: float, what: str) -> None:
    """For what no watch tells: asks five times a second."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(AGAIN_S)


def condition(object_: Object, kind: str) -> str:
    """The status of a condition: "True", "False", "Unknown", or "" when there is none."""
    conditions = object_.get("status", {}).get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == kind), "")


def is_ready(pod: Object) -> bool:
    """A pod that serves, and is not on its way out."""
    return condition(pod, "Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _told(object_: Object) -> object:
    """What a person wants to see of it when a wait failed."""
    status = object_.get("status", {})
    told = [
        f"{each['type']}={each['status']} {each.get('reason', '')} {each.get('message', '')}".strip()
        for each in status.get("conditions", [])
    ]
    return {"phase": status.get("phase", ""), "conditions": told}
