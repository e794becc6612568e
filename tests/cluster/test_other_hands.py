"""Another tool that applies the same again and again, and hands that change what is ours."""

from __future__ import annotations

from cluster.kit.api import Api, eventually
from cluster.kit.chat import Chat, Operator, resource

TIMES = 10


async def test_gitops_sees_no_drift_and_causes_none(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply()
    await chat.settled(2)
    before = kubectl.get("chat", "talk")["metadata"]
    children = kubectl.get("deployments,services,configmaps")["items"]
    manifest = {**resource(), "metadata": {"name": "talk"}}
    path = f"{chat.path}"
    for _ in range(TIMES):
        await api.apply(path, manifest, "gitops")
    after = (await api.get(path))["metadata"]  # kubectl leaves managedFields out
    assert after["generation"] == before["generation"]
    managers = {each["manager"] for each in after["managedFields"] if each.get("subresource") != "status"}
    assert "chatcluster-operator" not in managers
    again = kubectl.get("deployments,services,configmaps")["items"]
    assert [each["metadata"].get("generation") for each in again] == [
        each["metadata"].get("generation") for each in children
    ]


async def test_what_a_hand_has_changed_is_put_back_and_told(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply()
    await chat.settled(2)
    kubectl("scale", "deployment", "talk-api", "--replicas=3")
    kubectl("delete", "networkpolicy", "--all")
    kubectl("label", "service", "talk-api", "app.kubernetes.io/managed-by=me", "--overwrite")

    async def put_back() -> bool:
        replicas = kubectl.get("deployment", "talk-api")["spec"]["replicas"]
        policies = kubectl.get("networkpolicies")["items"]
        labels = kubectl.get("service", "talk-api")["metadata"]["labels"]
        return replicas == 1 and bool(policies) and labels["app.kubernetes.io/managed-by"] != "me"

    await eventually(put_back, 30, "as the resource says")

    async def told() -> bool:
        return any("Deployment talk-api had been changed" in note for note in chat.events())

    await eventually(told, 10, "an event")


async def test_what_a_hand_has_added_is_taken_away_and_a_restart_is_not(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply()
    await chat.settled(2)

    def add(what: str, patch: str) -> None:
        kubectl("patch", *what.split(), "--type=json", f"--patch={patch}")

    container = "/spec/template/spec/containers"
    add("networkpolicy talk-schema", '[{"op": "add", "path": "/spec/ingress", "value": [{}]}]')
    add("deployment talk-api", f'[{{"op": "add", "path": "{container}/0/args", "value": ["--by-hand"]}}]')
    sidecar = '{"name": "by-hand", "image": "localhost/nothing"}'
    add("deployment talk-worker", f'[{{"op": "add", "path": "{container}/-", "value": {sidecar}}}]')
    add("service talk-api", '[{"op": "replace", "path": "/spec/type", "value": "NodePort"}]')

    async def taken_away() -> bool:
        listed = kubectl.get("networkpolicies,deployments,services")["items"]
        specs = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in listed}
        pods = [specs["Deployment", f"talk-{part}"]["template"]["spec"] for part in ("api", "worker")]
        return (
            "ingress" not in specs["NetworkPolicy", "talk-schema"]
            and all(
                "args" not in one and len(pod["containers"]) == 1 for pod in pods for one in pod["containers"]
            )
            and specs["Service", "talk-api"]["type"] == "ClusterIP"
        )

    await eventually(taken_away, 30, "as the resource says")
    changed = (
        "NetworkPolicy talk-schema",
        "Deployment talk-api",
        "Deployment talk-worker",
        "Service talk-api",
    )

    async def told() -> bool:
        notes = chat.events()
        return all(any(f"{one} had been changed" in note for note in notes) for one in changed)

    await eventually(told, 10, "an event for each")
    kubectl("rollout", "restart", "deployment/talk-worker")
    kubectl("rollout", "status", "deployment/talk-worker", "--timeout=60s")
    pod = kubectl.get("deployment", "talk-worker")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in pod["metadata"]["annotations"]
    assert sum("Deployment talk-worker had been changed" in note for note in chat.events()) == 1


async def test_what_is_somebody_elses_is_left_alone(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl, "town"), operator.kubectl
    kubectl("create", "service", "clusterip", "town-api", "--tcp=1234")
    before = kubectl.get("service", "town-api")
    chat.apply()
    assert "Service town-api" in (await chat.reason("Degraded", "NameTaken"))["message"]
    assert kubectl.get("service", "town-api") == before
    kubectl("delete", "service", "town-api")
    await chat.settled(2)
    assert kubectl.get("service", "town-api")["metadata"]["ownerReferences"][0]["name"] == "town"
