"""What somebody adds to an object of ours is taken away, and what the API server adds itself is none."""

from __future__ import annotations

import copy
from typing import Any

from support.kube_api import KubeApi, eventually
from support.kube_cluster import World, started
from support.manifest_samples import SMALL, all_objects, cluster_of

from chatoperator.kube.additions import GUARDED, RESTARTED, additions
from chatoperator.kube.brake import FIRST_S, MOST_S, Brake
from chatoperator.kube.cache import Cache
from chatoperator.kube.children import Children, prepare
from chatoperator.kube.kinds import CONFIG_MAP, DEPLOYMENT, NETWORK_POLICY, SERVICE, Object, kind_of
from chatoperator.kube.refusals import Refusals

SERVICES = "/api/v1/namespaces/apps/services"
POLICY = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/talk-schema"
CONTAINER: dict[str, Any] = {"name": "api", "image": "i", "env": [{"name": "A", "value": "1"}]}


def deployment(container: dict[str, Any] = CONTAINER, **pod: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], **pod}}
    return {"spec": {"replicas": 1, "template": template}}


def more(live: Object, wanted: Object) -> Object:
    return additions(DEPLOYMENT, live, wanted)


def in_pod(patch: Object) -> Object:
    found: Object = patch["spec"]["template"]["spec"]
    return found


def test_nothing_is_added_to_what_is_as_it_was_made() -> None:
    for one in all_objects(cluster_of(SMALL)):
        assert additions(kind_of(one), copy.deepcopy(one), one) == {}


def test_an_argument_a_variable_a_sidecar_and_a_volume_go() -> None:
    wanted = deployment()
    whole = {"containers": [CONTAINER]}
    assert in_pod(more(deployment({**CONTAINER, "args": ["--x"]}), wanted)) == whole
    env = [*CONTAINER["env"], {"name": "B", "value": "2"}]
    assert in_pod(more(deployment({**CONTAINER, "env": env}), wanted)) == whole
    two = deployment()
    two["spec"]["template"]["spec"]["containers"] = [{"name": "spy", "image": "j"}, CONTAINER]
    assert in_pod(more(two, wanted)) == whole
    assert in_pod(more(deployment(volumes=[{"name": "v", "emptyDir": {}}]), wanted)) == {"volumes": None}


def test_what_the_api_server_sets_is_nothing() -> None:
    container = {
        **CONTAINER,
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    live = deployment(
        container, dnsPolicy="ClusterFirst", securityContext={}, schedulerName="default-scheduler"
    )
    live["spec"] |= {"revisionHistoryLimit": 10, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}}
    assert more(live, deployment()) == {}
    service = {"spec": {"ports": [{"name": "http", "port": 80}], "selector": {"a": "b"}}}
    assigned = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}
    defaults = {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}
    live = {"spec": {**assigned, **defaults, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}
    live["spec"]["selector"] = {"a": "b"}
    assert additions(SERVICE, live, service) == {}


def test_a_service_that_leads_elsewhere_or_out_is_put_back() -> None:
    wanted = {"spec": {"ports": [{"name": "http", "port": 80}], "selector": {"a": "b"}}}
    live = copy.deepcopy(wanted)
    live["spec"]["selector"] = {"a": "b", "c": "d"}
    assert additions(SERVICE, live, wanted) == {"spec": {"selector": {"c": None}}}
    live = {"spec": {**wanted["spec"], "type": "NodePort", "externalIPs": ["1.2.3.4"]}}
    live["spec"]["ports"] = [{"name": "http", "port": 80, "nodePort": 30000}]
    assert additions(SERVICE, live, wanted) == {
        "spec": {"type": None, "externalIPs": None, "ports": wanted["spec"]["ports"]}
    }


def test_a_policy_that_lets_everybody_in_is_put_back() -> None:
    wanted = {"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}
    live = {"spec": {**wanted["spec"], "ingress": [{}]}}
    assert additions(NETWORK_POLICY, live, wanted) == {"spec": {"ingress": None}}
    live = {"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}, {}]}}
    assert additions(NETWORK_POLICY, live, wanted) == {"spec": {"egress": wanted["spec"]["egress"]}}


def test_a_restart_by_kubectl_is_left_and_other_notes_on_pods_are_not() -> None:
    live = deployment()
    live["spec"]["template"]["metadata"]["annotations"] = {RESTARTED: "2026-11-27T12:00:00Z"}
    assert more(live, deployment()) == {}
    live["spec"]["template"]["metadata"]["annotations"]["inject"] = "yes"
    assert more(live, deployment()) == {"spec": {"template": {"metadata": {"annotations": {"inject": None}}}}}


def test_into_a_config_map_others_may_write() -> None:
    assert CONFIG_MAP not in GUARDED
    assert additions(CONFIG_MAP, {"data": {"a": "1", "b": "2"}}, {"data": {"a": "1"}}) == {}


def test_two_that_disagree_make_no_storm() -> None:
    now = [0.0]
    brake, done = Brake(lambda: now[0]), 0
    for second in range(600):
        now[0] = float(second)
        if not brake.holds("x"):
            brake.done("x")
            done += 1
    assert done <= 16
    assert not brake.holds("y")
    now[0] += 3 * MOST_S
    brake.done("x")
    now[0] += FIRST_S
    assert not brake.holds("x"), "it was calm for long enough"


class Sets(KubeApi):
    """Sets a field of every Service, as a newer Kubernetes might."""

    def put(self, path: str, content: Object, *, told: bool = True) -> Object:
        if "/services/" in path:
            content = {**content, "spec": {**content["spec"], "newer": "yes"}}
        return super().put(path, content, told=told)


async def test_what_the_api_server_insists_on_is_asked_of_it_once() -> None:
    (service,) = [
        one
        for one in all_objects(cluster_of(SMALL))
        if (one["kind"], one["metadata"]["name"]) == ("Service", "talk-api")
    ]
    async with Sets().running() as api:
        client = api.client()
        cache = Cache(client, ["apps"])
        children, wanted = Children(client, cache, Refusals(), "1"), prepare([service])
        made = await children.ensure(wanted)
        assert (made.made, made.put_back, made.failed) == (1, [], [])
        asked = api.asked("PATCH", "services")
        path = f"{SERVICES}/talk-api"
        cache[SERVICE].put(api.put(path, {**api.objects[path], "status": {"loadBalancer": {}}}))
        again = await children.ensure(wanted)
        assert (again.put_back, api.asked("PATCH", "services")) == ([], asked)
        await client.aclose()


async def test_what_a_hand_has_added_is_taken_away_and_told(world: World) -> None:
    await started(world)
    live = world.api.objects[POLICY]
    world.api.put(POLICY, {**live, "spec": {**live["spec"], "ingress": [{}]}})
    await eventually(lambda: "ingress" not in world.api.objects[POLICY]["spec"])
    await eventually(lambda: "NetworkPolicy talk-schema had been changed" in str(world.events()))
    assert world.api.asked("PATCH", POLICY) == 2
