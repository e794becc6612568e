"""User names on MongoDB, where a claim and the account are two documents: one account for a name, whoever is slow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from mongo_pods import Pods, about, pods
from support.mongo import faults
from support.mongo.commands.call import Call
from support.mongo.errors import ErrorCode
from support.mongo.wire import Document

from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.storage.model import User
from chatkernel.storage.mongo import accounts
from chatkernel.storage.mongo.accounts import CLAIM_GRACE_MS
from chatkernel.storage.mongo.store import MongoStore


@pytest.fixture
async def running() -> AsyncIterator[Pods]:
    async with pods() as started:
        yield started


@pytest.fixture
async def store(running: Pods) -> MongoStore:
    return await running.start()


def ann(user_id: str) -> User:
    return User(user_id, "Ann", "Ann", 1)


async def test_who_takes_too_long_over_an_account_gives_it_up(
    running: Pods, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the claim and the account more than the grace has passed, by the clock of the pod that comes next."""
    other = await running.start()

    async def hook(call: Call) -> Document:
        if about(call, "users"):
            hooked.remove()
            monkeypatch.setattr(accounts, "now_ms", lambda: now_ms() + CLAIM_GRACE_MS + 1)
            await other.create_user(ann("u_b"), "hash-b")
        return await call.proceed()

    hooked = running.on("insert", hook)
    with pytest.raises(ChatError) as refused:
        await store.create_user(ann("u_a"), "hash-a")
    assert refused.value.code is Code.USERNAME_TAKEN
    assert list(await store.users(["u_a", "u_b"])) == ["u_b"]
    found = await store.user_by_name("ann")
    assert found is not None and found.user_id == "u_b"


async def test_an_account_that_was_made_is_never_taken_over(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create_user(ann("u_a"), "hash-a")
    monkeypatch.setattr(accounts, "now_ms", lambda: now_ms() + CLAIM_GRACE_MS + 1)
    with pytest.raises(ChatError) as refused:
        await store.create_user(ann("u_b"), "hash-b")
    assert refused.value.code is Code.USERNAME_TAKEN


async def test_a_sign_up_that_failed_can_be_tried_again_at_once(running: Pods, store: MongoStore) -> None:
    async def hook(call: Call) -> Document:
        failing = faults.fails(ErrorCode.OUT_OF_DISK_SPACE)
        return await (failing(call) if about(call, "users") else call.proceed())

    hooked = running.on("insert", hook)
    with pytest.raises(ChatError) as refused:
        await store.create_user(ann("u_a"), "hash")
    assert refused.value.retryable
    hooked.remove()
    await store.create_user(ann("u_b"), "hash")
    found = await store.user_by_name("ann")
    assert found is not None and found.user_id == "u_b"


async def test_an_account_that_is_there_though_its_answer_was_lost_keeps_its_name(
    running: Pods, store: MongoStore
) -> None:
    assert await running.dies(lambda dying: dying.create_user(ann("u_a"), "hash"), after=3)
    with pytest.raises(ChatError) as refused:
        await store.create_user(ann("u_b"), "hash")
    assert refused.value.code is Code.USERNAME_TAKEN
    found = await store.credentials("ANN")
    assert found is not None and found.user_id == "u_a"
