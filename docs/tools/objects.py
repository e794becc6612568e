"""The Kubernetes objects of a cluster: the table of docs/kubernetes/objects.md, and two whole clusters to look at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from chatkernel.settings import SecretFile, SigningKey
from chatoperator.manifests import build, chatpod, keys, names, schema
from chatoperator.manifests.inputs import DevelopmentImages, Inputs, Manifest, owner_of
from chatoperator.spec import API_VERSION, KIND, ChatCluster

EXAMPLES = Path(__file__).parents[2] / "examples"

INPUTS = Inputs(
    owner_uid="11111111-2222-3333-4444-555555555555",
    image="chatcluster:0.1.0",
    operator_namespace="chatcluster",
    development=DevelopmentImages("redis:7", "postgres:16", "mongo:7"),
    chat_pods=3,
)
POD_UID = "66666666-7777-8888-9999-000000000000"
POD_SUFFIX = "x7k2p"
_NOT_SHOWN = "not shown here"
_ANY_NAME = "any"

WHY = {
    (
        "Secret",
        "NAME-keys",
    ): "What signs tokens and tickets. Generated once, never overwritten. With `deletionPolicy: "
    "Keep` it outlives the cluster: one of this name that is made again knows everybody",
    (
        "Secret",
        "NAME-development",
    ): "With `development: true`: password and URLs of what is run for trying out",
    ("ServiceAccount", "NAME-pods"): "Who the pods are. It may do nothing, and its token is mounted nowhere",
    (
        "ConfigMap",
        "NAME-live",
    ): "What pods follow while they run: limits, drain, rates. A change makes no new pods",
    ("ConfigMap", "NAME-api"): "Settings of the API pods; a change replaces them one after another",
    ("ConfigMap", "NAME-worker"): "Settings of the workers; likewise",
    ("ConfigMap", "NAME-probe"): "Settings of the probe; likewise",
    ("NetworkPolicy", "NAME-chat"): "Clients may come in; Redis, the store and DNS may be reached",
    ("NetworkPolicy", "NAME-api"): "Likewise, and the issuers whose keys it fetches",
    (
        "NetworkPolicy",
        "NAME-worker",
    ): "Only the operator may come in (with a ServiceMonitor: Prometheus, from anywhere)",
    ("NetworkPolicy", "NAME-probe"): "Likewise, and the pods that it chats with may be reached",
    ("NetworkPolicy", "NAME-schema"): "Nobody may come in; the store and DNS may be reached",
    (
        "NetworkPolicy",
        "NAME-redis",
    ): "With `redis.development`: only the cluster's pods and the operator may come in, "
    "and nobody may be reached",
    (
        "NetworkPolicy",
        "NAME-postgresql",
    ): "With `postgresql.development`: only the cluster's pods may come in, and nobody may be reached",
    ("NetworkPolicy", "NAME-mongodb"): "With `mongodb.development`: likewise, for it asks for no password",
    (
        "PodDisruptionBudget",
        "NAME-chat",
    ): "A drained node takes one chat pod at a time; one that is not ready, always",
    ("PodDisruptionBudget", "NAME-api"): "Likewise for API pods",
    ("Service", "NAME-api"): "The API, on port 80",
    ("Service", "NAME-redis"): "With `redis.development`: where it is",
    ("Deployment", "NAME-redis"): "Its pod; in memory only",
    ("Service", "NAME-postgresql"): "With `postgresql.development`: where it is",
    ("Deployment", "NAME-postgresql"): "Its pod, and the data goes with it",
    ("Service", "NAME-mongodb"): "With `mongodb.development`: where it is",
    ("Deployment", "NAME-mongodb"): "Its pod, and the data goes with it",
    ("Deployment", "NAME-api"): "The API pods",
    ("Deployment", "NAME-worker"): "The workers",
    ("Deployment", "NAME-probe"): "One pod that chats with itself through every chat pod, and measures",
    ("Ingress", "NAME-api"): "With `exposure.ingress`: every path that is no pod's leads to the API",
    ("HTTPRoute", "NAME-api"): "With `exposure.gateway`: likewise",
    ("Service", "NAME-chat"): "With `observability.serviceMonitor`: by which Prometheus finds the chat pods",
    ("Service", "NAME-worker"): "Likewise the workers",
    ("Service", "NAME-probe"): "Likewise the probe",
    (
        "ServiceMonitor",
        "NAME-monitoring",
    ): "With `observability.serviceMonitor`: whom Prometheus asks, and where",
    ("Job", "NAME-schema-HASH"): "Makes the store's tables and indexes; another one for each image and store",
    ("ConfigMap", "NAME-chat-REVISION"): "Settings of the chat pods of one revision; immutable",
    (
        "ControllerRevision",
        "NAME-chat-REVISION",
    ): "The pod of one revision, whole, so that one more of it can be "
    "started when a newer revision is given up",
    (
        "Pod",
        "NAME-chat-REVISION-RANDOM",
    ): "Holds WebSockets. A bare pod: the operator chooses which one goes, and when",
    ("Service", "NAME-chat-REVISION-RANDOM"): "With `exposure`: leads to this pod alone, and goes with it",
    (
        "Ingress",
        "NAME-chat-REVISION-RANDOM",
    ): "With `exposure.ingress`: the path of this pod's socket; goes with it",
    ("HTTPRoute", "NAME-chat-REVISION-RANDOM"): "With `exposure.gateway`: likewise",
}
"""By kind and name, in the order in which they are made."""


def object_tables() -> dict[str, str]:
    """The blocks of docs/kubernetes/objects.md. Raises LookupError when what is made is not what WHY gives reasons
    for."""
    made = {(one["kind"], _name(one)) for cluster in _every_choice() for one in all_objects(cluster)}
    if made != WHY.keys():
        raise LookupError(f"not both made and with a reason: {sorted(made ^ WHY.keys())}")
    lines = ["| kind | name | why it is there |", "| --- | --- | --- |"]
    lines += [f"| {kind} | `{name}` | {why} |" for (kind, name), why in WHY.items()]
    return {"objects": "\n".join(lines) + "\n"}


def whole_cluster(example: Path) -> str:
    """The example, and then its objects with one chat pod, as YAML."""
    resource = example.read_text(encoding="utf-8")
    objects = map(_hidden, all_objects(_cluster(yaml.safe_load(resource))))
    told = f"# Made by `make docs`: examples/{example.name}, and what the operator makes of it, with one chat pod.\n"
    return told + resource + "".join(f"---\n{_yaml(one)}" for one in objects)


def all_objects(cluster: ChatCluster, inputs: Inputs = INPUTS) -> list[Manifest]:
    """With one chat pod, in the order in which they are made."""
    settings, revision = chatpod.revision_objects(cluster, inputs)
    name = f"{revision['metadata']['name']}-{POD_SUFFIX}"
    pod = chatpod.pod(chatpod.template_of(revision), name, owner_of(cluster, inputs))
    return [
        *generated_secrets(cluster, inputs),
        *build.children(cluster, inputs),
        schema.job(cluster, inputs),
        settings,
        revision,
        pod,
        *chatpod.pod_exposure(cluster, name, POD_UID),
    ]


def generated_secrets(cluster: ChatCluster, inputs: Inputs = INPUTS) -> list[Manifest]:
    """As they are after `keys.ownership` was applied."""
    made = [
        keys.keys_secret(cluster, SecretFile([SigningKey("k-1", "x" * 32)])),
        keys.development_secret(cluster, "pass-word_1"),
    ]
    wanted = {name: keys.ownership(cluster, inputs, name, "")["metadata"] for name in keys.wanted(cluster)}
    for metadata in wanted.values():
        del metadata["uid"]  # of the one that is there
    names_of = [(one, one["metadata"]["name"]) for one in made]
    return [{**one, "metadata": wanted[name]} for one, name in names_of if name in wanted]


def _hidden(one: Manifest) -> Manifest:
    return {**one, "data": dict.fromkeys(one["data"], _NOT_SHOWN)} if one["kind"] == "Secret" else one


def _cluster(resource: dict[str, Any]) -> ChatCluster:
    resource["metadata"].setdefault("namespace", "chat")
    return msgspec.convert(resource, ChatCluster)


def _every_choice() -> list[ChatCluster]:
    """Clusters that have every object between them."""
    run = {"development": True}
    watched = {"serviceMonitor": True}
    ways = ({"ingress": {}}, {"gateway": {"name": "web"}})
    specs = [
        {"redis": run, store: run, "observability": watched, "exposure": {"host": "chat.example.com", **way}}
        for store, way in zip(("postgresql", "mongodb"), ways, strict=True)
    ]
    head = {"apiVersion": API_VERSION, "kind": KIND}
    return [_cluster({**head, "metadata": {"name": _ANY_NAME}, "spec": spec}) for spec in specs]


def _name(one: Manifest) -> str:
    """With placeholders for what differs between clusters and revisions."""
    meta = one["metadata"]
    name = f"NAME{meta['name'].removeprefix(_ANY_NAME)}"
    if one["kind"] == "Job":
        return f"{name.rpartition('-')[0]}-HASH"
    pod = re.match(f"(NAME-{names.CHAT})-[0-9a-f]{{8}}(-{POD_SUFFIX})?$", name)
    if pod is None:
        return name
    return f"{pod[1]}-REVISION{'-RANDOM' if pod[2] else ''}"


class _Dumper(yaml.SafeDumper):
    """Lines stay lines, and nothing is an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(one: Manifest) -> str:
    return yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=110)
