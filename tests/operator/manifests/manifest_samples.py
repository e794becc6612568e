"""Clusters whose objects are looked at, and all objects of one."""

from __future__ import annotations

from typing import Any

import msgspec

from chatkernel.settings import SecretFile, SigningKey
from chatoperator.manifests import build, chatpod, keys, schema
from chatoperator.manifests.inputs import DevelopmentImages, Inputs, Manifest, owner_of
from chatoperator.spec import API_VERSION, KIND, ChatCluster

INPUTS = Inputs(
    owner_uid="0b7e1c9e-3f1a-4a56-9d0e-6a4f7e1d2c33",
    image="registry.example/chatcluster:0.1.0",
    operator_namespace="chat-system",
    development=DevelopmentImages("redis:7", "postgres:16", "mongo:7"),
)

SMALL: dict[str, Any] = {
    "redis": {"development": True},
    "postgresql": {"development": True},
}

FULL: dict[str, Any] = {
    "image": "registry.example/chatcluster:0.2.0",
    "imagePullSecrets": ["registry"],
    "version": "0.2.0",
    "region": "eu",
    "deletionPolicy": "Delete",
    "chatPods": {
        "autoscaling": {"min": 3, "max": 20},
        "connectionsPerPod": 20_000,
        "env": [{"name": "TZ", "value": "UTC"}],
        "terminationGracePeriodSeconds": 120,
        "pod": {
            "labels": {"team": "chat"},
            "annotations": {"example.com/note": "sockets"},
            "env": [{"name": "LANG", "value": "C.UTF-8"}],
            "resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
            "nodeSelector": {"pool": "chat"},
            "tolerations": [{"key": "pool", "value": "chat", "effect": "NoSchedule"}],
            "priorityClassName": "chat",
            "topologySpread": [
                {
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "maxSkew": 1,
                }
            ],
        },
    },
    "apiPods": {"replicas": 3},
    "worker": {"replicas": 2},
    "redis": {
        "urlFrom": {"secret": {"name": "redis", "key": "url"}},
        "tls": {"caSecret": {"name": "redis", "key": "ca.crt"}},
    },
    "mongodb": {
        "urlFrom": {"secret": {"name": "mongodb", "key": "connectionString"}},
        "tls": {"caSecret": {"name": "mongodb-ca", "key": "ca.crt"}},
        "zones": [{"region": "eu", "shards": ["rs0"]}, {"region": "us", "shards": ["rs1"]}],
    },
    "auth": {
        "issuers": [
            {
                "issuer": "https://login.example.com",
                "jwksUrl": "https://login.example.com/keys",
                "audience": "chat",
            }
        ]
    },
    "exposure": {
        "host": "chat.example.com",
        "tls": {"secretName": "chat-tls"},
        "ingress": {
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"},
        },
    },
    "observability": {"serviceMonitor": True, "labels": {"release": "prometheus"}},
    "retention": {"messages": "365d"},
}

GATEWAY: dict[str, Any] = {
    "redis": {"url": "rediss://redis.example:6380/0", "tls": {"insecureSkipVerify": True}},
    "postgresql": {"url": "postgresql://chat@db.example/chat"},
    "exposure": {
        "host": "chat.example.com",
        "gateway": {"name": "web", "namespace": "gateways", "sectionName": "https"},
    },
}

MONGO: dict[str, Any] = {"redis": {"development": True}, "mongodb": {"development": True}}

SENTINEL: dict[str, Any] = {
    "redis": {"url": "redis+sentinel://s1.example,s2.example/main"},
    "mongodb": {"url": "mongodb+srv://db.example/chat"},
    "worker": {"pod": {"serviceAccountName": "mine"}},
}

SPECS = {"small": SMALL, "full": FULL, "gateway": GATEWAY, "mongo": MONGO, "sentinel": SENTINEL}

POD_OF_REVISION = "x7k2p"


def cluster_of(spec: dict[str, Any], name: str = "talk", namespace: str = "apps") -> ChatCluster:
    resource = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    return msgspec.convert(resource, ChatCluster)


def chat_pod(cluster: ChatCluster, inputs: Inputs = INPUTS) -> Manifest:
    revision = chatpod.revision_objects(cluster, inputs)[1]
    name = f"{revision['metadata']['name']}-{POD_OF_REVISION}"
    return chatpod.pod(chatpod.template_of(revision), name, owner_of(cluster, inputs))


def secrets_of(cluster: ChatCluster) -> list[Manifest]:
    """What is generated for it."""
    made = {
        "keys": keys.keys_secret(cluster, SecretFile([SigningKey("k-1", "x" * 32)])),
        "development": keys.development_secret(cluster, "pass-word_1"),
    }
    wanted = keys.wanted(cluster)
    return [secret for secret in made.values() if secret["metadata"]["name"] in wanted]


def all_objects(cluster: ChatCluster, inputs: Inputs = INPUTS) -> list[Manifest]:
    """Everything that a cluster with one chat pod has."""
    pod = chat_pod(cluster, inputs)
    return [
        *secrets_of(cluster),
        *build.children(cluster, inputs),
        *chatpod.revision_objects(cluster, inputs),
        schema.job(cluster, inputs),
        pod,
        *chatpod.pod_exposure(cluster, pod["metadata"]["name"], "pod-uid"),
    ]


def pods_of(objects: list[Manifest]) -> dict[str, Manifest]:
    """Each pod's `metadata` and `spec` by component, also of those that Deployments and Jobs will make."""
    found = {}
    for one in objects:
        if one["kind"] == "Pod":
            pod = one
        elif one["kind"] in ("Deployment", "Job"):
            pod = one["spec"]["template"]
        else:
            continue
        found[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod
    return found


def of_kind(objects: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name."""
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}
