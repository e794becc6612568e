"""Rights, quotas and Secrets that are not as they should be: a condition says so, what runs is left alone, and it is
well again when a person has mended it."""

from __future__ import annotations

import asyncio

import pytest
from support.kube_api import eventually
from support.kube_cluster import CORE, World, started
from support.valkey import redis_client

from chatkernel.redis_client import execute

QUOTA = "pods is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
ROLE = 'is forbidden: User "operator" cannot do that in the namespace "team"'
PODS, MAPS = f"{CORE}/pods", f"{CORE}/configmaps"
JOBS = "/apis/batch/v1/namespaces/team/jobs"


async def is_degraded(world: World, reason: str, within_s: float = 15.0) -> str:
    await eventually(lambda: world.condition("Degraded").get("reason") == reason, within_s)
    return str(world.condition("Degraded")["message"])


@pytest.mark.slow
async def test_a_quota_is_told_and_asked_about_ever_more_rarely(world: World) -> None:
    names = await started(world)
    world.api.forbidden["POST", PODS] = QUOTA
    asked = world.api.asked("POST", PODS)
    world.apply(chatPods={"replicas": 4})
    assert "Raise the quota" in await is_degraded(world, "QuotaExceeded")
    await asyncio.sleep(6)  # as long as it is asked about every second otherwise: 12 times, for two pods
    assert 1 <= world.api.asked("POST", PODS) - asked <= 4
    assert sorted(world.chat_pods()) == names
    world.api.forbidden.clear()
    await world.chat_pods_are(4, 20)


@pytest.mark.slow
async def test_a_right_to_write_that_is_missing_is_told(world: World) -> None:
    names = await started(world)
    world.api.forbidden["PATCH", f"{MAPS}/talk-live"] = ROLE
    world.apply(limits={"textMaxBytes": 1000})
    assert "the chart's roles have all" in await is_degraded(world, "Forbidden")
    world.api.forbidden.clear()
    await eventually(lambda: world.condition("Degraded")["status"] == "False", 20)
    assert sorted(world.chat_pods()) == names


async def test_a_right_to_note_on_pods_that_is_missing_is_told(world: World) -> None:
    first, _ = await started(world)
    world.api.forbidden["PATCH", f"{PODS}/{first}"] = ROLE
    world.apply(limits={"textMaxBytes": 1000})
    await is_degraded(world, "Forbidden")


@pytest.mark.slow
async def test_a_right_to_see_that_is_missing_is_told_though_nothing_is_done(world: World) -> None:
    names = await started(world)
    world.api.forbidden["GET", MAPS] = ROLE
    world.api.interrupt()
    assert "configmaps" in await is_degraded(world, "Forbidden", 30)
    assert sorted(world.chat_pods()) == names
    world.api.forbidden.clear()
    await eventually(lambda: world.condition("Degraded")["status"] == "False", 30)


@pytest.mark.slow
async def test_a_schema_job_that_gets_no_pod_says_why(world: World) -> None:
    world.api.forbidden["POST", PODS] = QUOTA
    world.apply()
    await eventually(lambda: bool(world.children("jobs")))
    (name,) = world.children("jobs")
    job = world.api.objects[f"{JOBS}/{name}"]
    long_ago = {**job["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}
    world.api.put(f"{JOBS}/{name}", {**job, "metadata": long_ago})
    await eventually(lambda: world.condition("StorageReady").get("reason") == "QuotaExceeded", 15)
    assert "exceeded quota: few" in await is_degraded(world, "QuotaExceeded")
    uid = job["metadata"]["uid"]
    world.api.forbidden.clear()
    # Made anew: its own controller would wait long.
    await eventually(lambda: f"{JOBS}/{name}" in world.api.objects and uid != uid_of(world, name), 20)
    assert not world.chat_pods()


def uid_of(world: World, job: str) -> str:
    return str(world.api.objects[f"{JOBS}/{job}"]["metadata"]["uid"])


async def test_a_secret_that_goes_while_people_are_connected_is_told(world: World) -> None:
    names = await started(world)
    world.secret(postgresql="postgresql://db/chat")
    await eventually(lambda: world.condition("RegistryReady").get("reason") == "SecretMissing", 15)
    assert "redis" in await is_degraded(world, "SecretMissing")
    world.secret(redis=world.valkey.url, postgresql="postgresql://db/chat")
    await eventually(lambda: world.condition("RegistryReady").get("reason") == "RegistryReachable", 15)
    assert sorted(world.chat_pods()) == names


async def test_what_the_store_said_stands_until_it_says_something_else(world: World) -> None:
    world.apply()
    await eventually(lambda: bool(world.children("jobs")))
    (name,) = world.children("jobs")
    uid = uid_of(world, name)
    world.api.put(f"{PODS}/{name}-1", failed_pod(uid, "password authentication failed for user chat"))
    world.api.put(f"{JOBS}/{name}", {**world.api.objects[f"{JOBS}/{name}"], "status": {"failed": 1}})
    await eventually(lambda: world.condition("StorageReady").get("reason") == "StoreRefuses", 15)
    # The password was corrected: that is tried at once.
    world.secret(redis=world.valkey.url, postgresql="postgresql://chat:right@db/chat")
    await eventually(lambda: f"{JOBS}/{name}" in world.api.objects and uid != uid_of(world, name), 5)


def failed_pod(job_uid: str, said: str) -> dict[str, object]:
    ended = {"exitCode": 77, "message": said, "finishedAt": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {
            "labels": {
                "chatcluster.dev/cluster": "talk",
                "app.kubernetes.io/component": "schema",
                "app.kubernetes.io/managed-by": "chatcluster-operator",
            },
            "ownerReferences": [{"uid": job_uid}],
        },
        "spec": {},
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]},
    }


async def test_what_no_pod_has_written_in_the_registry_goes(world: World) -> None:
    first, second = await started(world)
    async with redis_client(world.valkey.url) as redis:
        ((key,),) = await execute(redis, [("KEYS", "*{registry}")])
        await execute(redis, [("HSET", key, "pod:talk-chat-nonsense", "{", f"pod:{first}", "{")])
        async with asyncio.timeout(8):
            while True:
                (names,) = await execute(redis, [("HKEYS", key)])
                if b"pod:talk-chat-nonsense" not in names:
                    break
                await asyncio.sleep(0.05)
        # Under the name of a living pod it is left to that pod, which writes over it.
        assert f"pod:{first}".encode() in names
    assert await world.may_register(first)
    assert await world.registered() == {first, second}
