"""A development store keeps its data in its pod: when that is made again, its tables are, too."""

from __future__ import annotations

from typing import Any

from support.kube_api import eventually
from support.kube_cluster import World

STORE: dict[str, Any] = {"postgresql": {"development": True}}
JOBS = "/apis/batch/v1/namespaces/team/jobs"
DEPLOYMENT = "/apis/apps/v1/namespaces/team/deployments/talk-postgresql"
POD = "/api/v1/namespaces/team/pods/talk-postgresql"


def store_pod(world: World, number: int, created: str) -> None:
    labels = world.api.objects[DEPLOYMENT]["spec"]["template"]["metadata"]["labels"]
    meta = {"labels": labels, "creationTimestamp": created}
    world.api.put(f"{POD}-{number}", {"metadata": meta, "spec": {}, "status": {"phase": "Running"}})


def uids(world: World) -> set[str]:
    return {str(job["metadata"]["uid"]) for job in world.objects("jobs")}


async def test_its_tables_are_made_again(world: World) -> None:
    world.apply(**STORE)
    await eventually(lambda: DEPLOYMENT in world.api.objects)
    store_pod(world, 1, "2026-01-01T10:00:00Z")
    running = {**world.api.objects[DEPLOYMENT], "status": {"readyReplicas": 1}}
    world.api.put(DEPLOYMENT, running)
    await eventually(lambda: len(uids(world)) == 1)
    first = uids(world)
    (path,) = [path for path in world.api.objects if path.startswith(JOBS)]
    done = {"succeeded": 1, "completionTime": "2026-01-01T10:01:00Z"}
    world.api.put(path, {**world.api.objects[path], "status": done})
    await eventually(lambda: world.condition("StorageReady").get("reason") == "DevelopmentStore")
    assert uids(world) == first

    world.api.remove(f"{POD}-1")
    store_pod(world, 2, "2026-01-01T10:02:00Z")
    await eventually(lambda: len(uids(world)) == 1 and uids(world) != first)
    await eventually(lambda: world.condition("StorageReady").get("reason") == "SchemaPending")
