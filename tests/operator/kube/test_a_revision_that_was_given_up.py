"""What Kubernetes keeps (API pods, workers, the probe) goes back with the chat pods; what does not get on is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.kube_api import KubeApi, eventually
from support.kube_cluster import World, started, tended
from support.valkey import Valkey

from chatoperator.kube.findings import problem_of_deployment
from chatoperator.model import PodKind
from chatoperator.reasons import Reason
from chatoperator.resource_object import cluster_of
from chatoperator.revision import revision_of

APPS = "/apis/apps/v1/namespaces/team"
GOOD, BAD = "localhost/chatcluster:1", "localhost/chatcluster:bad"


@pytest.fixture
async def world(valkey: Valkey, tmp_path: Path) -> Any:
    """A cluster that ran well, and is asked for an image that was given up."""
    async with KubeApi().running() as api:
        made = World(api, valkey)
        made.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(made, tmp_path):
            await started(made)
        made.mark_good()
        made.apply(image=BAD)
        yield made


def give_up(world: World) -> None:
    """As an operator of before has noted it."""
    resource = world.resource()
    revision = revision_of(cluster_of(resource).spec, PodKind.CHAT)
    undone = {"revision": revision, "at": "2026-01-01T00:00:00Z", "reason": "its pods died"}
    world.put_status({**resource["status"], "undone": undone})


async def tables_are_made(world: World) -> None:
    """By the Job of another image, or release."""
    await eventually(lambda: ["status" in job for job in world.objects("jobs")] == [False])
    world.finish_schema()


def template(world: World, name: str) -> Any:
    found = world.api.objects.get(f"{APPS}/deployments/{name}")
    return None if found is None else found["spec"]["template"]


def image(world: World, name: str) -> str:
    return str(template(world, name)["spec"]["containers"][0]["image"])


async def test_deployments_have_the_image_of_the_last_good_revision(world: World, tmp_path: Path) -> None:
    names = ("talk-api", "talk-worker", "talk-probe")
    before = {name: template(world, name) for name in names}
    async with tended(world, tmp_path):
        await tables_are_made(world)
        for name in names:
            await eventually(lambda name=name: image(world, name) == BAD)
    give_up(world)
    async with tended(world, tmp_path):
        for name in names:
            await eventually(lambda name=name: template(world, name) == before[name])
        # It is tried again as soon as the resource asks for something else.
        world.apply(image="localhost/chatcluster:3")
        await tables_are_made(world)
        await eventually(lambda: image(world, "talk-api") == "localhost/chatcluster:3")


async def test_they_follow_the_resource_also_while_the_given_up_image_makes_no_tables(
    world: World, tmp_path: Path
) -> None:
    world.apply(image=BAD, apiPods={"replicas": 5})
    give_up(world)
    async with tended(world, tmp_path):
        await eventually(lambda: world.api.objects[f"{APPS}/deployments/talk-api"]["spec"]["replicas"] == 5)
        assert image(world, "talk-api") == GOOD


def deployment(*conditions: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "talk-api"}, "status": {"conditions": list(conditions)}}


def test_a_deployment_that_does_not_get_on_is_told() -> None:
    stuck = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": 'ReplicaSet "talk-api-1" has timed out progressing.',
    }
    found = problem_of_deployment(deployment(stuck))
    assert found is not None
    assert found.reason is Reason.DEPLOYMENT_STUCK
    assert found.detail == 'talk-api: ReplicaSet "talk-api-1" has timed out progressing'
    assert found.reason.next_step
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    both = problem_of_deployment(deployment(stuck, refused))
    assert both is not None
    assert both.reason is Reason.QUOTA_EXCEEDED, "which is why"
    for well in ({**stuck, "status": "True", "reason": "ReplicaSetUpdated"}, {**refused, "status": "False"}):
        assert problem_of_deployment(deployment(well)) is None
