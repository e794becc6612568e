"""Each fault of the scripted server is seen by PyMongo as MongoDB's documentation says, and by nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern
from support.mongo import faults
from support.mongo.client import connected
from support.mongo.errors import ErrorCode
from support.mongo.scripted import ScriptedServer, scripted_server
from support.mongo.topology import ReplicaSet, replica_set
from support.valkey import eventually

NAMESPACE = "chat.events"


@pytest.fixture
async def alone() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def replicas() -> AsyncIterator[ReplicaSet]:
    async with replica_set() as started:
        yield started


def events(*seqs: int) -> list[dict[str, Any]]:
    return [{"_id": seq, "channel_id": "eu_a", "seq": seq} for seq in seqs]


def stored(replicas: ReplicaSet) -> list[int]:
    return [each["seq"] for each in replicas.store.documents(NAMESPACE)]


async def test_a_not_writable_primary_is_retried_once_with_the_same_number(replicas: ReplicaSet) -> None:
    replicas.primary.on("insert", faults.not_writable_primary(), times=1)
    async with connected(replicas.url) as client:
        await client.chat.events.insert_one(events(1)[0])
    first, second = replicas.primary.seen("insert")
    assert first["txnNumber"] == second["txnNumber"]
    assert stored(replicas) == [1]


async def test_without_retryable_writes_a_not_writable_primary_is_an_error(replicas: ReplicaSet) -> None:
    replicas.primary.on("insert", faults.not_writable_primary(), times=1)
    async with connected(replicas.url, retryWrites=False) as client:
        with pytest.raises(NotPrimaryError) as refused:
            await client.chat.events.insert_one(events(1)[0])
        assert refused.value.details["code"] == ErrorCode.NOT_WRITABLE_PRIMARY  # type: ignore[call-overload]
        assert stored(replicas) == []
        await client.chat.events.insert_one(events(1)[0])
    assert stored(replicas) == [1]


async def test_a_step_down_in_the_middle_of_an_insert_is_healed_by_the_retry(replicas: ReplicaSet) -> None:
    old = replicas.primary
    old.on("insert", faults.stored_then(replicas.step_down, 2), times=1)
    async with connected(replicas.url) as client:
        result = await client.chat.events.insert_many(events(1, 2, 3))
    assert replicas.primary is not old
    assert len(replicas.primary.seen("insert")) == 1
    assert len(result.inserted_ids) == 3
    assert stored(replicas) == [1, 2, 3]


async def test_a_step_down_in_the_middle_of_an_insert_leaves_its_beginning_stored(
    replicas: ReplicaSet,
) -> None:
    replicas.primary.on("insert", faults.stored_then(replicas.step_down, 2), times=1)
    async with connected(replicas.url, retryWrites=False) as client:
        with pytest.raises(NotPrimaryError) as refused:
            await client.chat.events.insert_many(events(1, 2, 3))
        code = refused.value.details["code"]  # type: ignore[call-overload]
        assert code == ErrorCode.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE
        assert stored(replicas) == [1, 2]
        with pytest.raises(BulkWriteError) as doubled:
            await client.chat.events.insert_many(events(1, 2, 3))
        assert doubled.value.details["writeErrors"][0]["index"] == 0


async def test_a_killed_primary_is_followed_by_the_next(replicas: ReplicaSet) -> None:
    async with connected(replicas.url) as client:
        await client.chat.events.insert_one(events(1)[0])
        await replicas.fail_over()
        await client.chat.events.insert_one(events(2)[0])
    assert stored(replicas) == [1, 2]


async def test_without_a_primary_writes_wait_and_secondaries_are_read(replicas: ReplicaSet) -> None:
    async with connected(replicas.url) as client:
        await client.chat.events.insert_one(events(1)[0])
        elected = replicas.secondaries[0]
        replicas.without_primary()
        read = client.chat.events.with_options(read_preference=ReadPreference.SECONDARY_PREFERRED)
        assert await read.find_one({"seq": 1}) is not None
        writing = asyncio.create_task(client.chat.events.insert_one(events(2)[0]))
        done, _ = await asyncio.wait({writing}, timeout=0.2)
        assert not done
        replicas.elect(elected)
        await writing
    assert stored(replicas) == [1, 2]


async def test_a_secondary_refuses_reads_that_want_the_primary(replicas: ReplicaSet) -> None:
    async with connected(replicas.secondaries[0].url) as client:
        # A driver says itself that a secondary will do when it was told to talk to this one server.
        assert await client.chat.events.find_one({}) is None
        with pytest.raises(NotPrimaryError):
            await client.chat.events.insert_one(events(1)[0])


async def test_a_write_concern_error_comes_after_the_write_was_stored(replicas: ReplicaSet) -> None:
    replicas.primary.on("insert", faults.write_concern_failed(), times=1)
    async with connected(replicas.url) as client:
        with pytest.raises(WriteConcernError) as failed:
            await client.chat.events.insert_one(events(1)[0])
    assert failed.value.code == ErrorCode.UNSATISFIABLE_WRITE_CONCERN
    assert stored(replicas) == [1]


async def test_a_step_down_while_waiting_for_a_majority_is_retried_and_not_executed_again(
    replicas: ReplicaSet,
) -> None:
    old = replicas.primary
    old.on("update", faults.stepped_down_after(replicas.step_down), times=1)
    async with connected(replicas.url) as client:
        await client.chat.counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, upsert=True)
    assert (len(old.seen("update")), len(replicas.primary.seen("update"))) == (1, 1)
    assert replicas.store.documents("chat.counters") == [{"_id": "a", "n": 1}]


async def test_a_majority_that_is_late_is_a_time_out_of_a_write_that_is_stored(replicas: ReplicaSet) -> None:
    replicas.primary.on("insert", faults.majority_timed_out(), times=1)
    # With `timeoutMS` a driver sends no `wtimeout`.
    async with connected(replicas.url, timeoutMS=None) as client:
        concern = WriteConcern("majority", wtimeout=100)
        with pytest.raises(WTimeoutError) as late:
            await client.chat.events.with_options(write_concern=concern).insert_one(events(1)[0])
    assert late.value.code == ErrorCode.WRITE_CONCERN_TIMEOUT
    assert replicas.primary.seen("insert")[0]["writeConcern"] == {"w": "majority", "wtimeout": 100}
    assert stored(replicas) == [1]


async def test_in_a_batch_the_late_majority_is_beside_the_counts(replicas: ReplicaSet) -> None:
    replicas.primary.on("insert", faults.majority_timed_out(), times=1)
    async with connected(replicas.url) as client:
        with pytest.raises(BulkWriteError) as late:
            await client.chat.events.insert_many(events(1, 2))
    details = late.value.details
    assert details["writeConcernErrors"][0]["code"] == ErrorCode.WRITE_CONCERN_TIMEOUT
    assert (details["nInserted"], details["writeErrors"]) == (2, [])


async def test_a_reset_after_the_write_is_retried_and_executed_once(replicas: ReplicaSet) -> None:
    replicas.primary.on("update", faults.reset_after(), times=1)
    async with connected(replicas.url) as client:
        result = await client.chat.counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, upsert=True)
    assert result.upserted_id == "a"
    assert len(replicas.primary.seen("update")) == 2
    assert replicas.store.documents("chat.counters") == [{"_id": "a", "n": 1}]


@pytest.mark.parametrize(
    ("fault", "is_stored"), [(faults.reset_before(), False), (faults.reset_after(), True)]
)
async def test_on_one_server_a_reset_leaves_the_outcome_unknown(
    alone: ScriptedServer, fault: Any, is_stored: bool
) -> None:
    alone.on("insert", fault, times=1)
    async with connected(alone.url) as client:
        with pytest.raises(AutoReconnect):
            await client.chat.events.insert_one(events(1)[0])
    assert "txnNumber" not in alone.seen("insert")[0]
    assert bool(alone.store.documents(NAMESPACE)) is is_stored


async def test_a_reset_of_a_read_is_not_seen(alone: ScriptedServer) -> None:
    alone.on("find", faults.reset_before(), times=1)
    async with connected(alone.url) as client:
        assert await client.chat.events.find_one({}) is None
    assert len(alone.seen("find")) == 2


async def test_the_time_out_bounds_a_frozen_server(alone: ScriptedServer) -> None:
    async with connected(alone.url) as client:
        await client.admin.command("ping")
        alone.freeze()
        started = time.monotonic()
        with pytest.raises(PyMongoError) as late, pymongo.timeout(0.4):
            await client.chat.events.insert_one(events(1)[0])
        assert late.value.timeout
        assert 0.3 < time.monotonic() - started < 4.0
        alone.thaw()

        async def is_stored() -> bool:
            return bool(alone.store.documents(NAMESPACE))

        await eventually(is_stored)


async def test_a_frozen_primary_blocks_new_clients_no_longer_than_they_want(replicas: ReplicaSet) -> None:
    for member in replicas.members:
        member.freeze()
    started = time.monotonic()
    async with connected(replicas.url, timeoutMS=400) as client:
        with pytest.raises(ServerSelectionTimeoutError):
            await client.chat.events.find_one({})
    assert time.monotonic() - started < 4.0


async def test_a_late_answer_is_a_time_out_of_a_write_that_is_stored(alone: ScriptedServer) -> None:
    answer = asyncio.Event()
    alone.on("insert", faults.held(answer), times=1)
    async with connected(alone.url) as client:
        with pytest.raises(NetworkTimeout), pymongo.timeout(0.3):
            await client.chat.events.insert_one(events(1)[0])
        answer.set()
        assert await client.chat.events.find_one({"seq": 1}) is not None


async def test_a_test_can_wait_for_a_command_and_act_while_it_runs(replicas: ReplicaSet) -> None:
    answer = asyncio.Event()
    held = replicas.primary.on("insert", faults.held(answer), times=1)
    async with connected(replicas.url) as client:
        writing = asyncio.create_task(client.chat.events.insert_one(events(1)[0]))
        await held.reached()
        replicas.primary.reset_connections()
        await writing
    assert len(replicas.primary.seen("insert")) == 2
    assert stored(replicas) == [1]


async def test_a_slow_answer_comes(alone: ScriptedServer) -> None:
    alone.on("find", faults.slow(0.1))
    async with connected(alone.url) as client:
        started = time.monotonic()
        await client.chat.events.find_one({})
    assert time.monotonic() - started >= 0.1


async def test_one_in_ten_fails(alone: ScriptedServer) -> None:
    alone.on("*", faults.one_in(10, faults.fails(ErrorCode.OUT_OF_DISK_SPACE, "no space left")))
    refused = 0
    async with connected(alone.url) as client:
        for seq in range(1, 31):
            try:
                await client.chat.events.insert_one(events(seq)[0])
            except OperationFailure as failure:
                assert failure.code == ErrorCode.OUT_OF_DISK_SPACE
                refused += 1
    assert refused == 3
    assert len(alone.store.documents(NAMESPACE)) == 27


async def test_a_write_conflict_is_an_error_of_the_command(alone: ScriptedServer) -> None:
    alone.on("insert", faults.fails(ErrorCode.WRITE_CONFLICT, "write conflict"), times=1)
    async with connected(alone.url) as client:
        with pytest.raises(OperationFailure) as lost:
            await client.chat.events.insert_one(events(1)[0])
    assert lost.value.code == ErrorCode.WRITE_CONFLICT


async def test_a_stopped_server_refuses_and_comes_back_with_its_data(alone: ScriptedServer) -> None:
    async with connected(alone.url) as client:
        await client.chat.events.insert_one(events(1)[0])
        await alone.stop()
        with pytest.raises(AutoReconnect), pymongo.timeout(0.3):
            await client.chat.events.insert_one(events(2)[0])
        await alone.start()
    async with connected(alone.url) as client:
        with pytest.raises(DuplicateKeyError):
            await client.chat.events.insert_one(events(1)[0])


async def test_hooks_nest_and_can_change_the_command(alone: ScriptedServer) -> None:
    order: list[str] = []

    async def outer(call: Any) -> dict[str, Any]:
        order.append("outer")
        return await call.proceed(call.command | {"documents": events(7)})  # type: ignore[no-any-return]

    async def inner(call: Any) -> dict[str, Any]:
        order.append(f"inner {call.command['documents'][0]['seq']}")
        return await call.proceed()  # type: ignore[no-any-return]

    first = alone.on("insert", outer, times=1)
    alone.on("insert", inner)
    async with connected(alone.url) as client:
        await client.chat.events.insert_one(events(1)[0])
    assert order == ["outer", "inner 7"]
    assert first.seen == 1
    assert alone.store.documents(NAMESPACE) == events(7)


async def test_a_hook_that_fails_fails_the_test() -> None:
    async def mistaken(_: Any) -> dict[str, Any]:
        raise KeyError("a mistake of the test")

    with pytest.raises(AssertionError, match="a hook, failed"):
        async with scripted_server() as server, connected(server.url) as client:
            server.on("ping", mistaken)
            with pytest.raises(OperationFailure):
                await client.admin.command("ping")


async def test_what_the_server_does_not_know_it_refuses(alone: ScriptedServer) -> None:
    async with connected(alone.url) as client:
        for attempt in (
            client.chat.command("reIndex", "events"),
            client.chat.events.find_one({"seq": {"$near": 1}}),
            client.chat.events.update_one({}, [{"$set": {"a": 1}}], upsert=True),
            client.admin.command("shardCollection", NAMESPACE, key={"channel_id": 1}),
        ):
            with pytest.raises(OperationFailure):
                await attempt
