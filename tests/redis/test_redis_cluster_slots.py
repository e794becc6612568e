"""A server in cluster mode refuses commands and scripts whose keys are in several slots: nothing of ours is
refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from support.redis_servers import Server, one_server, until
from support.redis_usage import use_everything
from support.valkey import free_port, redis_client

from chatkernel.errors import ChatError
from chatkernel.keys import PRESENCE_SHARDS, Keys
from chatkernel.redis_client import execute
from chatkernel.redis_cluster import SLOTS, slot_of


@pytest.fixture
def one_node() -> Iterator[Server]:
    """It has all slots."""
    with one_server(cluster_enabled="yes", cluster_port=free_port()) as server:
        server.do("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        until(lambda: b"cluster_state:ok" in server.raw("CLUSTER", "INFO"))
        yield server


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_everything_we_send_keeps_to_one_slot_at_a_time(
    one_node: Server, keys: Keys, scheme: str
) -> None:
    async with redis_client(f"{scheme}://127.0.0.1:{one_node.port}") as redis:
        with pytest.raises(ChatError):
            await execute(redis, [("UNLINK", "one", "another")])
        await use_everything(redis, keys)


@pytest.mark.parametrize("nodes", [2, 3, 4, 6])
def test_no_node_gets_much_more_of_what_grows_with_people_than_another(keys: Keys, nodes: int) -> None:
    presence = [keys.presence_expiry(shard) for shard in range(PRESENCE_SHARDS)]
    routes = [keys.route(f"u:{n}") for n in range(5_000)]
    for names in (presence, routes):
        shares = Counter(slot_of(name) * nodes // SLOTS for name in names)
        assert max(shares.values()) < 1.35 * len(names) / nodes


async def test_commands_of_one_call_come_back_in_order_whichever_nodes_they_went_to(
    six_nodes: str, keys: Keys
) -> None:
    async with redis_client(six_nodes) as redis:
        names = [keys.limit(f"n{n}") for n in range(300)]
        assert len({slot_of(name) * 3 // SLOTS for name in names}) == 3
        await execute(redis, [("SET", name, name) for name in names])

        async def read() -> None:
            assert await execute(redis, [("GET", name) for name in names]) == [n.encode() for n in names]

        await asyncio.gather(*[read() for _ in range(20)])


async def test_a_refused_command_says_so_and_the_others_have_run(six_nodes: str, keys: Keys) -> None:
    async with redis_client(six_nodes) as redis:
        names = [keys.limit(f"n{n}") for n in range(30)]
        await execute(redis, [("SET", name, "text") for name in names])
        with pytest.raises(ChatError):
            await execute(redis, [("INCR", names[0]), *[("SET", name, "later") for name in names[1:]]])
        assert await execute(redis, [("GET", name) for name in names]) == [b"text"] + [b"later"] * 29
