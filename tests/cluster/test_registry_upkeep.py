"""What somebody deletes, forges or doubles in Redis is put right, and all of it when Redis was emptied."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.kit.api import eventually
from cluster.kit.chat import SLOW, Chat
from cluster.kit.registry import RawRegistry, registry_of
from cluster.kit.talk import talking

LEASE_S = 5.0
"""`chatPods.leaseSeconds`."""
REPAIRED_S = 7.0
"""At rest the operator looks every 5 s, and gives a pod that it does not know a second to appear."""
LONG_S = 86_400.0


@pytest.fixture
async def registry(chat: Chat) -> AsyncIterator[RawRegistry]:
    async with registry_of(chat) as opened:
        yield opened


async def test_emptied_it_is_complete_again_within_a_lease(chat: Chat, registry: RawRegistry) -> None:
    before, policy = await chat.chat_pods(), await registry.policy()
    assert policy["serving_revision"]
    async with talking(chat.url) as talk:
        await talk.goes_on(10)
        await registry.empty()

        async def complete() -> bool:
            return (await registry.pods()).keys() == before.keys() and await registry.policy() == policy

        await eventually(complete, LEASE_S * SLOW, "the registry is complete")
        await talk.goes_on(20)
        # Nobody was even disconnected.
        assert not any(device.recorder.losses for device in talk.devices)
    assert (await chat.settled(2)).keys() == before.keys()


async def test_a_deleted_entry_is_there_again(chat: Chat, registry: RawRegistry) -> None:
    before = await chat.chat_pods()
    await registry.delete(min(before))
    assert min(before) not in await registry.pods()

    async def there() -> bool:
        return (await registry.pods()).keys() == before.keys()

    await eventually(there, LEASE_S * SLOW, "the entry is there again")
    assert (await chat.settled(2)).keys() == before.keys()


async def test_forged_stale_and_doubled_entries_go(chat: Chat, registry: RawRegistry) -> None:
    before = await chat.chat_pods()
    real = (await registry.pods())[min(before)]
    forged = real | {"name": f"{chat.name}-chat-forged", "incarnation": "forged", "url": "ws://203.0.113.1"}
    stale = real | {"name": f"{chat.name}-chat-stale", "incarnation": "stale"}
    doubled = real | {"name": f"{chat.name}-chat-doubled"}
    for entry, lease_s in ((forged, LONG_S), (stale, -LONG_S), (doubled, LONG_S)):
        await registry.put(entry, lease_s)
    nonsense = f"{chat.name}-chat-nonsense"
    await registry.put_text(nonsense, "{")
    assert len(await registry.names()) == 6

    async def only_ours() -> bool:
        return await registry.names() == before.keys()

    await eventually(only_ours, REPAIRED_S * SLOW, "only the entries of living pods are there")
    assert (await registry.pods())[min(before)]["incarnation"] == real["incarnation"]

    async def told() -> bool:
        said = "\n".join(chat.events())
        # What is stale a worker may have been the first to clear away.
        names = (nonsense, forged["name"], doubled["name"])
        return all(f"Removed the entry of {name}" in said for name in names)

    await eventually(told, 10, "events")
    assert (await chat.settled(2)).keys() == before.keys()


async def test_a_forged_policy_is_written_over_and_people_come_in(chat: Chat, registry: RawRegistry) -> None:
    before, policy = await chat.chat_pods(), await registry.policy()
    await registry.put_policy({"serving_revision": "no-such", "excluded": sorted(before)})

    async def as_before() -> bool:
        return await registry.policy() == policy

    await eventually(as_before, REPAIRED_S * SLOW, "the policy is the operator's")
    async with talking(chat.url, people=4, channels=2) as talk:
        await talk.goes_on(10)
