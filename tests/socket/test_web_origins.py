"""The API and the sockets let the same web origins in, however the operator wrote them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.api_calls import problem
from support.cluster import Cluster, default_spec, running_cluster
from support.crew import crew
from websockets.exceptions import InvalidStatus

WRITTEN = ["https://App.example/", "HTTPS://ports.example:443", "http://dev.example:8080"]
ALLOWED = [None, "https://app.example", "https://ports.example", "http://dev.example:8080"]
REFUSED = [
    "null",
    "https://evil.example",
    "http://app.example",
    "https://app.example.evil",
    "https://app.example:8443",
    "http://dev.example",
]


@pytest.fixture(scope="module")
def choosy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    spec = default_spec(chatPods={"replicas": 1})
    spec["auth"]["allowedOrigins"] = WRITTEN
    with running_cluster(tmp_path_factory.mktemp("choosy") / "data", spec) as started:
        yield started


async def test_the_same_origins_at_the_api_and_at_the_sockets(choosy: Cluster) -> None:
    async with crew(choosy, replicas=1) as some:
        (ann,) = await some.people("ann")
        for origin in ALLOWED:
            headers = {} if origin is None else {"origin": origin}
            answer = await ann.ask("GET", "/v1/me", headers=headers)
            assert answer.status_code == 200, origin
            socket = await some.socket(ann, origin=origin)
            assert (await socket.ask("ping"))["type"] == "pong"
        for origin in [*REFUSED, choosy.url]:
            by_api = problem(
                await ann.ask("GET", "/v1/me", headers={"origin": origin}), 403, "origin_not_allowed"
            )
            with pytest.raises(InvalidStatus) as refused:
                await some.socket(ann, origin=origin)
            response = refused.value.response
            kind = {"content-type": response.headers["content-type"]}
            by_socket = httpx.Response(
                response.status_code, headers=kind, content=bytes(response.body or b"")
            )
            assert problem(by_socket, 403, "origin_not_allowed") == by_api
