"""What the operator is given and cannot use: a condition with the next step within 30 s, what runs is left alone, and
it is well again when it is mended. Images that nobody has: test_rolling_out.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from cluster.kit.api import Api, Object
from cluster.kit.chat import Chat, Operator
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Kubectl
from cluster.kit.outside import SECRET, Outside, url_from
from cluster.kit.talk import talking

TOLD_S = 30.0
HEALED_S = 30.0
STORES = {"redis": url_from("redis"), "postgresql": url_from("postgresql")}


class World:
    """A cluster on stores that are not the operator's, whose URLs are in a Secret."""

    def __init__(self, api: Api, operator: Operator, faults: Faults) -> None:
        self.kubectl, self.operator, self.faults = operator.kubectl, operator, faults
        self.chat, self.outside = Chat(api, operator.kubectl), Outside(api, operator.kubectl)

    async def stand(self) -> None:
        self.outside.services("redis", "postgresql")
        self.outside.secret(self.outside.urls())
        await self.outside.start("redis", "postgresql")
        self.chat.apply(**STORES)
        await self.chat.settled(2)


@pytest.fixture
async def world(api: Api, operator: Operator, faults: Faults) -> AsyncIterator[World]:
    made = World(api, operator, faults)
    await made.stand()
    yield made


Break = Callable[[World], AbstractContextManager[None]]
"""Mends it at its end."""


def says(**urls: str | None) -> Break:
    """The Secret has these instead; None: not at all."""

    @contextmanager
    def broken(world: World) -> Iterator[None]:
        good = world.outside.urls()
        world.outside.secret({key: url for key, url in (good | urls).items() if url is not None})
        try:
            yield
        finally:
            world.outside.secret(good)

    return broken


@contextmanager
def no_secret(world: World) -> Iterator[None]:
    world.kubectl("delete", "secret", SECRET)
    try:
        yield
    finally:
        world.outside.secret(world.outside.urls())


@contextmanager
def store_stands_still(world: World) -> Iterator[None]:
    with world.faults.frozen(world.kubectl.namespace, "postgresql"):
        yield


@contextmanager
def quota(kubectl: Kubectl) -> Iterator[None]:
    """That has no room for another pod."""
    meta, spec = {"name": "few"}, {"hard": {"pods": "1"}}
    limit = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec}
    kubectl.apply(limit)
    kubectl("wait", "resourcequota/few", "--for=jsonpath={.status.hard.pods}=1", "--timeout=30s")
    try:
        yield
    finally:
        kubectl.delete(limit)


@contextmanager
def no_more_pods(world: World) -> Iterator[None]:
    with quota(world.kubectl):
        world.kubectl("scale", "chat", world.chat.name, "--replicas=3")
        yield


@contextmanager
def role_without(kubectl: Kubectl, resource: str, *verbs: str) -> Iterator[None]:
    role = next(each for each in kubectl.get("roles")["items"] if _rule_of(each, "chatclusters"))
    name, rules = role["metadata"]["name"], role["rules"]
    less = json.loads(json.dumps(rules))
    split = [rule for rule in less if resource in rule["resources"]]
    for rule in split:
        rule["resources"].remove(resource)
        kept = [verb for verb in rule["verbs"] if verb not in verbs]
        less.append({**rule, "resources": [resource], "verbs": kept})
    less = [rule for rule in less if rule["resources"] and rule["verbs"]]
    kubectl("patch", "role", name, "--type=merge", f"--patch={json.dumps({'rules': less})}")
    try:
        yield
    finally:
        kubectl("patch", "role", name, "--type=merge", f"--patch={json.dumps({'rules': rules})}")


def _rule_of(role: Object, resource: str) -> bool:
    return any(resource in rule["resources"] for rule in role["rules"])


@contextmanager
def may_not_make_pods(world: World) -> Iterator[None]:
    with role_without(world.kubectl, "pods", "create"):
        world.kubectl("scale", "chat", world.chat.name, "--replicas=3")
        yield


@contextmanager
def may_not_see_services(world: World) -> Iterator[None]:
    """An operator that has just been started: one that watches goes on for minutes."""
    with role_without(world.kubectl, "services", "list", "watch"):
        ours = "--selector=app.kubernetes.io/name=chatcluster-operator"
        world.kubectl(
            "delete", "pods", ours, "--wait=false"
        )  # people talk meanwhile: nothing may stand still
        yield


@dataclass(frozen=True)
class Case:
    breaks: Break
    told: tuple[tuple[str, str, str], ...]
    """Conditions, with the reason of each and a part of its message."""
    pods: int = 2
    """Once it is mended: some ask for one more that they do not get."""
    talk: bool = True
    """People can, meanwhile."""


REDIS, STORE, DEGRADED = "RegistryReady", "StorageReady", "Degraded"
WELL = {REDIS: "RegistryReachable", STORE: "SchemaReady", DEGRADED: "AllWell"}
WRONG_PASSWORD, NOWHERE = "redis://:wrong@redis:6379/0", "redis://:right@nobody:6379/0"

CASES = {
    "no Secret": Case(
        no_secret,
        ((REDIS, "SecretMissing", "Make the Secret"), (STORE, "SecretMissing", "the Secret stores")),
    ),
    "empty, and for something else": Case(
        says(redis="", postgresql="mysql://db"),
        (
            (REDIS, "SecretInvalid", "redis is empty"),
            (STORE, "SecretInvalid", "must begin with postgresql://"),
        ),
    ),
    "wrong password, and a key missing": Case(
        says(redis=WRONG_PASSWORD, postgresql=None),
        (
            (REDIS, "RegistryRefuses", "Correct user, password"),
            (STORE, "SecretMissing", "has no key postgresql"),
        ),
    ),
    "Redis away": Case(says(redis=NOWHERE), ((REDIS, "RegistryUnreachable", "Look at Redis"),)),
    "store stands still": Case(
        store_stands_still, ((STORE, "StoreUnreachable", "Look at the store"),), talk=False
    ),
    "quota": Case(no_more_pods, ((DEGRADED, "QuotaExceeded", "Raise the quota"),), pods=3),
    "may not make pods": Case(
        may_not_make_pods, ((DEGRADED, "Forbidden", "Give the right that the message names"),), pods=3
    ),
    "may not see services": Case(may_not_see_services, ((DEGRADED, "Forbidden", "services"),)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_it_is_told_leaves_running_chat_alone_and_heals(world: World, case: Case) -> None:
    chat = world.chat
    before = await chat.chat_pods()
    if case.talk:
        async with talking(chat.url, people=4, channels=2) as talk:
            await _breaks_and_heals(world, case)
            await talk.goes_on(10)
            assert not any(device.recorder.losses for device in talk.devices)
    else:
        await _breaks_and_heals(world, case)
    after = await chat.settled(case.pods)
    assert before.keys() <= after.keys()
    await chat.scale(2)


async def _breaks_and_heals(world: World, case: Case) -> None:
    chat = world.chat
    before = await chat.chat_pods()
    with case.breaks(world):
        for condition, reason, says_so in case.told:
            told = await chat.reason(condition, reason, TOLD_S)
            assert says_so in told["message"]
        assert (await chat.chat_pods()).keys() == before.keys()
    for condition, _, _ in case.told:
        await chat.reason(condition, WELL[condition], HEALED_S)


async def test_at_first_contact(world: World, api: Api) -> None:
    """One thing after the other, each mended; the tables are made when there is nothing left."""
    kubectl, outside = world.kubectl, world.outside
    first = Chat(api, kubectl, "first")
    login = ["env", "PGPASSWORD=right", "psql", "-h", "127.0.0.1", "-U", "chat", "-d", "chat"]
    kubectl("exec", "postgresql", "--", *login, "-c", "CREATE DATABASE early")
    good = outside.urls(database="early")
    wrong = outside.urls("wrong", "early")["postgresql"]
    with quota(kubectl):
        outside.secret(good | {"postgresql": wrong}, "first")
        first.apply(
            redis=url_from("redis", "first"),
            postgresql=url_from("postgresql", "first"),
            chatPods={"replicas": 1, "connectionsPerPod": 100},
        )
        told = await first.reason("StorageReady", "QuotaExceeded", TOLD_S)
        assert "Raise the quota" in told["message"]
    told = await first.reason("StorageReady", "StoreRefuses", TOLD_S)
    assert "Correct user, password" in told["message"]
    outside.secret(good | {"postgresql": "postgresql://chat:right@nobody:5432/early"}, "first")
    told = await first.reason("StorageReady", "StoreUnreachable", TOLD_S)
    assert "Look at the store" in told["message"]
    assert not await first.chat_pods()
    outside.secret(good, "first")
    await first.reason("StorageReady", "SchemaReady", HEALED_S)
    kubectl("delete", "chat", "first", "--wait=false")
