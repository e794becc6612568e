"""Limits of a running service follow the file of live settings: for connections that are open, and those to come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.api_calls import problem, sign_up
from support.rawsocket import RawSocket
from support.services import Service, Shore
from support.tickets import socket_at
from support.valkey import eventually

from chatkernel.errors import Close

pytestmark = pytest.mark.slow

WITHIN_S = 2.0


def told(socket: RawSocket) -> dict[str, Any]:
    limits: dict[str, Any] = socket.of("welcome")[0]["limits"]
    return limits


class Following:
    """Services of one file."""

    def __init__(self, ground: Shore) -> None:
        self.ground, self.file = ground, Path(ground.folder / "live.json")
        self.write({})

    def write(self, content: Any) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
        temporary.replace(self.file)

    async def service(self, module: str, name: str) -> Service:
        return await self.ground.start(module, name, live_file=str(self.file)).started()

    async def told(self, service: Service, event: str, times: int = 1) -> None:
        async def has() -> bool:
            return service.events().count(event) == times

        await eventually(has, WITHIN_S)


@pytest.fixture
def following(ground: Shore) -> Following:
    return Following(ground)


async def test_an_open_socket_is_held_to_the_new_limits(ground: Shore, following: Following) -> None:
    pod = await following.service("chatpod.main", "chat-1")
    first = await socket_at(ground, pod)
    assert told(first)["frame_max_bytes"] == 256 * 1024

    following.write({"limits": {"frame_max_bytes": 400_000}})
    await following.told(pod, "live settings changed")
    for size in (60_000, 300_000):  # below and above what is taken without the parser
        assert (await first.ask("ping", pad="x" * size))["type"] == "pong"
    second = await socket_at(ground, pod)
    assert told(second)["frame_max_bytes"] == 400_000

    following.write({"limits": {"frame_max_bytes": 500, "sends_per_s": 1, "sends_burst": 2}})
    await following.told(pod, "live settings changed", 2)
    answers = [await second.send("local_gnone", f"k{number}") for number in range(4)]
    assert answers[-1]["code"] == "rate_limited"
    await first.say("ping", pad="x" * 600)
    assert await first.closed() == Close.TOO_LARGE


async def test_what_cannot_be_used_is_refused_and_the_old_limits_stay(
    ground: Shore, following: Following
) -> None:
    following.write({"limits": {"frame_max_bytes": 500}})
    pod = await following.service("chatpod.main", "chat-1")
    for number, bad in enumerate((b'{"limits": ', {"limits": {"sends_per_s": 0}}), 1):
        following.write(bad)
        await following.told(pod, "live settings refused, the old ones stay", number)
    client = await socket_at(ground, pod)
    assert told(client)["frame_max_bytes"] == 500
    assert "chat_live_settings_refused 1" in (await pod.get("/metrics")).text
    following.write({"limits": {"frame_max_bytes": 600}})
    await following.told(pod, "live settings changed")
    assert "chat_live_settings_refused 0" in (await pod.get("/metrics")).text


async def test_a_worker_follows_too(following: Following) -> None:
    worker = await following.service("worker.main", "worker-1")
    following.write({"limits": {"export_max_bytes": 10_000}})
    await following.told(worker, "live settings changed")
    following.write(b"{")
    await following.told(worker, "live settings refused, the old ones stay")
    assert "chat_live_settings_refused 1" in (await worker.get("/metrics")).text


async def test_the_next_request_is_held_to_the_new_limits(following: Following) -> None:
    api = await following.service("apipod.main", "api-1")
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as http:
        anna = await sign_up(http)
        following.write(
            {
                "limits": {"name_max_chars": 5, "body_max_bytes": 300},
                "rates": {"signups_per_address": 1, "requests_per_s": 1, "requests_burst": 8},
            }
        )
        await following.told(api, "live settings changed")
        document = problem(
            await anna.ask("PATCH", "/v1/me", json={"display_name": "Annabel"}), 422, "invalid_field"
        )
        assert document["limit"] == 5
        problem(await anna.ask("PATCH", "/v1/me", json={"about": "x" * 400}), 413, "too_large")
        assert (await http.get("/asyncapi.json")).json()["x-limits"]["name_max_chars"] == 5
        body = {"username": "sybil", "password": "pass word 1"}
        refused = [(await http.post("/v1/accounts", json=body)) for _ in range(2)][-1]
        assert problem(refused, 429, "rate_limited")["field"] == "signups_per_address"
        answers = [(await anna.ask("GET", "/v1/me")).status_code for _ in range(20)]
        assert answers[-1] == 429 and 200 in answers
