"""What Kubernetes gives a pod (a settings file for all of a revision, URLs in mounted files, name and address in the
environment), and what it asks of it."""

from __future__ import annotations

import socket

import httpx
import pytest
from support.services import Service, Shore
from support.tickets import socket_at
from support.valkey import redis_client
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chatkernel.problems import PROBLEM_TYPE
from chatkernel.registry import Registry

pytestmark = pytest.mark.slow

NAME = "talk-chat-5f2-x7k2p"
IN_A_POD = {"CHAT_POD": NAME, "CHAT_POD_IP": "127.0.0.1"}


def by_files(ground: Shore) -> dict[str, str]:
    redis, store = ground.folder / "redis-url", ground.folder / "store-url"
    redis.write_text(ground.valkey.url + "\n")
    store.write_text(ground.store_url + "\n")
    return {"redis_url": "", "store_url": "", "redis_url_file": str(redis), "store_url_file": str(store)}


async def pod_of(ground: Shore) -> Service:
    url = "wss://chat.example/pods/{pod}/v1/socket"
    pod = ground.chat_pod("unnamed", environ=IN_A_POD, public_url=url, **by_files(ground))
    pod.name = NAME
    return await pod.started()


def figures(answer: httpx.Response) -> dict[str, float]:
    """Of a text for Prometheus, whose every line is one of its."""
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            name, value = line.rsplit(" ", 1)
            assert name.partition("{")[0] in typed
            found[name] = float(value)
    return found


async def test_a_chat_pod_is_named_and_reached_as_kubernetes_says(ground: Shore) -> None:
    pod = await pod_of(ground)
    async with redis_client(ground.valkey.url) as redis:
        [entry] = (await Registry(redis, ground.keys).snapshot()).entries
    assert (entry.name, entry.url) == (NAME, f"wss://chat.example/pods/{NAME}/v1/socket")
    assert entry.address == f"ws://127.0.0.1:{pod.settings.port}/v1/socket"

    plain = await socket_at(ground, pod)
    by_path = await socket_at(ground, pod, f"/pods/{NAME}/v1/socket")
    for client in (plain, by_path):
        assert (await client.ask("ping"))["type"] == "pong"
    for path in ("/pods/another/v1/socket", "/pods//v1/socket", f"/pods/{NAME}/v1/socket/"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(pod.url.replace("http", "ws", 1) + path, proxy=None)
        answer = refused.value.response
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM_TYPE)
        assert (await pod.get(path)).status_code == 404
    assert (await pod.get(f"/pods/{NAME}/v1/socket")).status_code == 400

    seen = figures(await pod.get("/metrics"))
    stats = await pod.stats()
    assert seen["chat_connections"] == stats["connections"] == 2
    assert seen["chat_users"] == 2 and seen["chat_ready"] == 1 and seen["chat_draining"] == 0
    assert seen["process_resident_memory_bytes"] > 2**20
    assert plain.of("welcome")[0]["user_id"] not in (await pod.get("/metrics")).text
    await plain.close()
    await by_path.close()


async def test_every_service_listens_on_every_address_and_answers_kubernetes(ground: Shore) -> None:
    ipv6 = socket.has_dualstack_ipv6() and _has_ipv6_loopback()
    services = {
        "chatpod.main": "chat_connections",
        "apipod.main": 'chat_http_responses_total{status="200"}',
        "worker.main": 'chat_worker_steps_total{loop="reaper"}',
    }
    for number, (module, figure) in enumerate(services.items()):
        name = f"pod-{number}"
        environ = {"CHAT_POD": name, "CHAT_POD_IP": "127.0.0.1"}
        service = await ground.start(module, name, environ=environ, **by_files(ground)).started()
        port = service.settings.port
        hosts = ["127.0.0.1", "127.0.0.2", *(["[::1]"] if ipv6 else [])]
        async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
            for host in hosts:
                for path in ("/healthz", "/readyz", "/statz"):
                    assert (await http.get(f"http://{host}:{port}{path}")).status_code == 200, (module, path)
            assert figure in figures(await http.get(f"http://127.0.0.1:{port}/metrics"))


async def test_without_an_address_of_its_own_a_service_is_for_this_machine_alone(ground: Shore) -> None:
    pod = await ground.chat_pod("chat-1").started()
    with pytest.raises(httpx.TransportError):
        async with httpx.AsyncClient(trust_env=False, timeout=3) as http:
            await http.get(f"http://127.0.0.2:{pod.settings.port}/healthz")


def _has_ipv6_loopback() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True
