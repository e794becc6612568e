"""Of pods, clusters and certificates that are no more the operator keeps nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.kube_api import KubeApi, eventually
from support.kube_cluster import CLUSTER, SPEC, World, started, tended
from support.valkey import Valkey

from chatkernel.registry import PodEntry, PodState

pytestmark = pytest.mark.slow

CA = {"tls": {"caSecret": {"name": "stores", "key": "ca"}}}
FORGED = PodEntry("talk-chat-nobody", "forged", "ws://x", "local", "r", PodState.READY, 3, 100, 1)


@pytest.fixture
async def world(valkey: Valkey, tmp_path: Path) -> AsyncIterator[World]:
    async with KubeApi().running() as api:
        made = World(api, valkey)
        made.secret(redis=valkey.url, postgresql="postgresql://db/chat", ca="-----BEGIN CERTIFICATE-----")
        async with tended(made, tmp_path):
            yield made


async def test_the_certificates_of_a_cluster_that_was_deleted_are_gone(world: World, tmp_path: Path) -> None:
    world.apply(postgresql={**SPEC["postgresql"], **CA})
    await eventually(lambda: any(tmp_path.rglob("*.crt")))
    world.api.remove(CLUSTER)
    await eventually(lambda: not any(tmp_path.iterdir()))


async def test_what_happens_again_to_one_of_a_name_that_was_gone_is_told_again(world: World) -> None:
    await started(world)

    def told() -> int:
        return sum(f"Removed the entry of {FORGED.name}" in note for note in world.events())

    for times in (1, 2):
        await world.forge(FORGED)
        await eventually(lambda times=times: told() == times, 15)
        async with asyncio.timeout(10):
            while FORGED.name in await world.registered():
                await asyncio.sleep(0.05)
        # It is seen that it is gone.
        rounds = world.counts.rounds.total()
        await eventually(lambda rounds=rounds: world.counts.rounds.total() > rounds + 1, 15)
