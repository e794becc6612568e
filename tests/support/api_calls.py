"""People at the HTTP API, for tests: sign up, ask with a token, read the answer."""

from __future__ import annotations

import itertools
from typing import Any

import httpx

_numbers = itertools.count(1)
PASSWORD = "correct horse battery"


class Person:
    """Somebody with an account, on one device."""

    def __init__(self, http: httpx.AsyncClient, username: str, tokens: dict[str, Any]) -> None:
        self.http, self.username, self.tokens = http, username, tokens
        self.id: str = tokens["user_id"]
        self.device_id: str = tokens["device_id"]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens['access_token']}"}

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        if body is not None:
            more["json"] = body
        return await self.http.request(method, path, headers=headers, **more)

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        response = await self.ask(method, path, body, **more)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    async def frame(self, frame_type: str, **fields: Any) -> Any:
        return await self.ok("POST", "/v1/frames", {"type": frame_type, "id": "f", **fields})

    async def another_device(self, **more: Any) -> Person:
        return await log_in(self.http, self.username, **more)


async def sign_up(http: httpx.AsyncClient, name: str = "person", **more: Any) -> Person:
    username = f"{name}{next(_numbers)}"
    body = {"username": username, "password": PASSWORD, **more}
    response = await http.post("/v1/accounts", json=body)
    assert response.status_code == 201, response.text
    return Person(http, username, response.json())


async def log_in(http: httpx.AsyncClient, username: str, **more: Any) -> Person:
    body = {"username": username, "password": PASSWORD, **more}
    response = await http.post("/v1/sessions", json=body)
    assert response.status_code == 201, response.text
    return Person(http, username, response.json())


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, checked to be one of this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:chatcluster:error:{code}" and document["title"] and document["detail"]
    assert "Traceback" not in response.text
    return document
