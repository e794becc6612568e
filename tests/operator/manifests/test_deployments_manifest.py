"""API pods, the worker and the probe: kept by Kubernetes, replaced one by one, moved off nodes that are away."""

from __future__ import annotations

from typing import Any

from support.manifest_samples import FULL, INPUTS, MONGO, SMALL, all_objects, cluster_of, of_kind

from chatoperator.manifests import schema
from chatoperator.manifests.inputs import Manifest


def deployments(spec: dict[str, Any]) -> dict[str, Manifest]:
    return of_kind(all_objects(cluster_of(spec)), "Deployment")


def test_as_many_as_the_resource_says() -> None:
    found = {name: one["spec"]["replicas"] for name, one in deployments(FULL).items()}
    assert found == {"talk-api": 3, "talk-worker": 2, "talk-probe": 1}


def test_a_new_pod_is_ready_before_an_old_one_goes() -> None:
    for one in deployments(FULL).values():
        assert one["spec"]["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }


def test_an_api_pod_serves_on_until_every_proxy_has_heard() -> None:
    spec = deployments(SMALL)["talk-api"]["spec"]["template"]["spec"]
    wait_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < wait_s < spec["terminationGracePeriodSeconds"] - 10


def test_no_probe_restarts_a_pod_for_what_redis_or_the_store_does() -> None:
    for one in deployments(FULL).values():
        (container,) = one["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert (
            container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"] >= 30
        )


def test_pods_leave_a_node_that_is_away_unless_a_person_says_how_long_they_stay() -> None:
    def kept_s(*tolerations: dict[str, Any]) -> list[Any]:
        spec = {**SMALL, "apiPods": {"pod": {"tolerations": list(tolerations)}}}
        found = deployments(spec)["talk-api"]["spec"]["template"]["spec"]["tolerations"]
        return [(one.get("key", ""), one.get("tolerationSeconds")) for one in found]

    away, not_ready = "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"
    assert kept_s() == [(not_ready, 30), (away, 30)]
    own = {"key": away, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    assert kept_s(own) == [(away, 5), (not_ready, 30)]
    assert kept_s({"operator": "Exists"}) == [("", None)]


def test_what_is_run_for_trying_out() -> None:
    found = deployments(SMALL)
    assert set(found) == {"talk-api", "talk-worker", "talk-probe", "talk-redis", "talk-postgresql"}
    images = {name: one["spec"]["template"]["spec"]["containers"][0]["image"] for name, one in found.items()}
    assert images["talk-redis"] == "redis:7"
    assert images["talk-postgresql"] == "postgres:16"
    assert "talk-mongodb" in deployments(MONGO)
    for name in ("talk-redis", "talk-postgresql"):
        assert found[name]["spec"]["strategy"] == {"type": "Recreate"}, "two at once would be two stores"
        assert found[name]["spec"]["replicas"] == 1
    assert set(deployments(FULL)) == {"talk-api", "talk-worker", "talk-probe"}


def test_a_change_of_the_store_or_the_image_makes_another_schema_job() -> None:
    def name(spec: dict[str, Any]) -> str:
        found: str = schema.job(cluster_of(spec), INPUTS)["metadata"]["name"]
        return found

    assert name(FULL).startswith("talk-schema-")
    assert name(FULL) == name({**FULL, "chatPods": {"replicas": 9}, "presence": {"heartbeatSeconds": 5}})
    others = [{**FULL, "image": "other"}, {**FULL, "mongodb": {**FULL["mongodb"], "zones": []}}, SMALL, MONGO]
    assert len({name(FULL), *map(name, others)}) == len(others) + 1


def test_a_schema_job_ends_where_trying_again_cannot_help() -> None:
    spec = schema.job(cluster_of(FULL), INPUTS)["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [78]
    pod = spec["template"]["spec"]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    assert pod["restartPolicy"] == "Never", "only so is the rule looked at"
    assert [one["name"] for one in pod["volumes"]] == ["store", "trust", "scratch"], "neither Redis nor keys"
