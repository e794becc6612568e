"""The appender on a replica set that fails in the ways its documentation names: what was acked is there, once, and
in order; what was not acked has a retryable error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest
from channel_log import ChannelLog
from support.mongo import faults
from support.mongo.commands.call import Hook
from support.mongo.errors import ErrorCode
from support.mongo.topology import ReplicaSet, mongos, replica_set

from chatkernel.appender import Appender, Placed
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange
from chatkernel.storage.mongo.store import MongoStore, open_mongo

CHANNEL = "local_gfaults"
TIMEOUT_MS = 1_000


class Pod:
    """One process: a client of its own, and an appender."""

    def __init__(self, store: MongoStore, seed: int) -> None:
        self.store = store
        self.appender = Appender(
            store,
            store,
            now_ms,
            before_insert=lambda _: None,
            on_stored=lambda _: None,
            random_source=Random(seed),
        )

    async def say(self, sender: str, key: str, channel: str = CHANNEL) -> Placed:
        placed, _ = await self.appender.append(
            channel_id=channel,
            sender_id=sender,
            client_msg_id=key,
            kind=EventKind.MESSAGE,
            members_seq=1,
            text=key,
        )
        return placed

    async def say_until_acked(self, sender: str, key: str) -> Placed:
        """As a client does: the same message again after each retryable error."""
        while True:
            try:
                return await self.say(sender, key)
            except ChatError as error:
                assert error.retryable, error


Start = Callable[[], Awaitable[Pod]]


@pytest.fixture
async def deployment() -> AsyncIterator[ReplicaSet]:
    async with replica_set() as running:
        yield running


@pytest.fixture
async def start(deployment: ReplicaSet) -> AsyncIterator[Start]:
    """Starts pods; the first makes the schema and the channel."""
    async with AsyncExitStack() as stack:
        pods: list[Pod] = []

        async def begin() -> Pod:
            joint = "&" if "?" in deployment.url else "?"
            store = await open_mongo(f"{deployment.url}{joint}timeoutMS={TIMEOUT_MS}")
            stack.push_async_callback(store.aclose)
            pod = Pod(store, len(pods))
            stack.push_async_callback(pod.appender.aclose)
            if not pods:
                await store.ensure_schema()
                await ChannelLog(store, CHANNEL).create("u_ann", "u_bob")
            pods.append(pod)
            return pod

        yield begin


async def log_of(store: MongoStore) -> list[tuple[int, str]]:
    [events] = await store.events([EventRange(CHANNEL, 1, 100_000)])
    assert [event.seq for event in events] == list(range(2, len(events) + 2))
    ids = [event.message_id for event in events]
    assert ids == sorted(set(ids))
    assert [event.messages_before for event in events] == list(range(len(events)))
    return [(event.seq, f"{event.sender_id}/{event.client_msg_id}") for event in events]


FAULTS: dict[str, Callable[[ReplicaSet], Hook]] = {
    "stepped down before": lambda _: faults.not_writable_primary(),
    "stepped down in the middle": lambda rs: faults.stored_then(rs.step_down, 2),
    "stepped down waiting for a majority": lambda rs: faults.stepped_down_after(rs.step_down),
    "write concern failed": lambda _: faults.write_concern_failed(),
    "no majority in time": lambda _: faults.majority_timed_out(),
    "reset before": lambda _: faults.reset_before(),
    "reset after": lambda _: faults.reset_after(),
    "refused": lambda _: faults.fails(ErrorCode.WRITE_CONFLICT),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_in_the_middle_of_an_insert(deployment: ReplicaSet, start: Start, name: str) -> None:
    pod = await start()
    hook = FAULTS[name](deployment)
    for server in (deployment.primary, *deployment.secondaries):
        server.on("insert", hook, times=1)
    acks = await asyncio.gather(*(pod.say_until_acked("u_ann", f"k{n}") for n in range(5)))
    log = await log_of(pod.store)
    assert sorted(log) == sorted((ack.seq, f"u_ann/k{n}") for n, ack in enumerate(acks))


async def test_nothing_is_acked_that_no_majority_has(deployment: ReplicaSet, start: Start) -> None:
    """It is stored on the primary alone, where a failover could take it back: the sender is told to ask again."""
    pod = await start()
    first = await pod.say("u_ann", "first")  # from here on it knows the head
    failing = deployment.primary.on("insert", faults.write_concern_failed())
    looking = deployment.primary.on("find", faults.reset_before())
    sending = asyncio.create_task(pod.say("u_ann", "k"))
    async with asyncio.timeout(20):
        await failing.reached()
        await looking.reached()
    assert not sending.done()
    failing.remove()
    looking.remove()
    placed = await sending
    assert await log_of(pod.store) == [(first.seq, "u_ann/first"), (placed.seq, "u_ann/k")]


async def test_one_in_ten_commands_failing_and_eight_pods(deployment: ReplicaSet, start: Start) -> None:
    pods = [await start() for _ in range(8)]
    for server in (deployment.primary, *deployment.secondaries):
        for command, fault in (
            ("insert", faults.reset_after()),
            ("insert", faults.write_concern_failed()),
            ("find", faults.reset_before()),
            ("update", faults.reset_after()),
        ):
            server.on(command, faults.one_in(10, fault))
    acks = await asyncio.gather(
        *(pods[n % 8].say_until_acked("u_bob" if n % 3 else "u_ann", f"k{n}") for n in range(80))
    )
    log = await log_of((await start()).store)
    told = sorted((ack.seq, f"{'u_bob' if n % 3 else 'u_ann'}/k{n}") for n, ack in enumerate(acks))
    assert sorted(log) == told


@pytest.mark.slow
async def test_a_frozen_server_is_a_retryable_error_in_time_and_recovery_needs_no_restart(
    deployment: ReplicaSet, start: Start
) -> None:
    pod = await start()
    await pod.say("u_ann", "before")
    for server in (deployment.primary, *deployment.secondaries):
        server.freeze()
    sending = asyncio.create_task(pod.say("u_ann", "frozen"))
    with pytest.raises(ChatError) as refused:
        await asyncio.wait_for(sending, 30)
    assert refused.value.code is Code.STORAGE_UNAVAILABLE and refused.value.retryable
    for server in (deployment.primary, *deployment.secondaries):
        server.thaw()
    placed = await pod.say_until_acked("u_ann", "frozen")
    assert await log_of(pod.store) == [(2, "u_ann/before"), (placed.seq, "u_ann/frozen")]


async def test_no_error_holds_a_value_a_host_or_a_password(deployment: ReplicaSet, start: Start) -> None:
    pod = await start()
    deployment.primary.on("find", faults.fails(ErrorCode.UNAUTHORIZED, "not for u_ann at db.example"))
    with pytest.raises(ChatError) as refused:
        await pod.store.users(["u_ann"])
    assert refused.value.__cause__ is not None
    assert "u_ann" not in refused.value.detail and "db.example" not in refused.value.detail


async def test_every_command_of_the_log_names_its_shard() -> None:
    """A filter without the shard key would go to all shards."""
    async with mongos() as router:
        store = await open_mongo(router.url)
        try:
            await store.ensure_schema()
            assert {action.split()[0] for action in await store.plan_schema()} <= {"keep"}
            router.broadcasts.clear()
            log = ChannelLog(store, CHANNEL)
            await log.create("u_ann", "u_bob")
            said = await log.say("u_ann", "hello")
            await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="hello!")
            await log.append(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True)
            await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
            await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
            await store.grant(CHANNEL, "u_ann")
            await store.events([EventRange(CHANNEL, 0, 100)])
            await store.message_ids([(CHANNEL, 2)], as_of_now=True)
            await store.unread("u_ann", [CHANNEL])
            await store.member_counts([CHANNEL])
            assert list(router.broadcasts) == []
            # What a heartbeat asks all shards: one command for so many people, and nothing else.
            await store.channels_of(["u_ann", "u_bob"])
            assert [each["find"] for each in router.broadcasts] == ["memberships"]
        finally:
            await store.aclose()
