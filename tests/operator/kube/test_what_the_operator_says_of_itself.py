"""Its health and its numbers, by HTTP."""

from __future__ import annotations

import asyncio

import httpx
from support.valkey import free_port

from chatkernel.listening import listen
from chatoperator.kube.health import make_app, make_server
from chatoperator.kube.metrics import Counts, operator_families


async def test_it_answers_on_both_kinds_of_addresses() -> None:
    port, ready = free_port(), [False]
    requests = {("list", 'po"ds', 200): 3, ("get", "secrets", 0): 1}
    counts = Counts()
    counts.rounds["rest"] = 7
    app = make_app(
        lambda: ready[0], lambda: operator_families(counts, requests, leading=True, stale_watches=2)
    )
    server = make_server(app)
    task = asyncio.create_task(server.serve(sockets=[listen("::", port)]))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.01)
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503
            ready[0] = True
            assert (await http.get("/readyz")).status_code == 200
            said = (await http.get("/metrics")).text
    finally:
        server.should_exit = True
        await task
    assert 'chatcluster_operator_requests_total{verb="list",resource="po\\"ds",code="200"} 3' in said
    assert 'code="none"} 1' in said
    assert "chatcluster_operator_watches_stale 2" in said
    assert 'chatcluster_operator_rounds_total{outcome="rest"} 7' in said
