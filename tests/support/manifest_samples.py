"""Clusters whose objects are looked at."""

from __future__ import annotations

from typing import Any

import msgspec

from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.spec import API_VERSION, KIND, ChatCluster
from docs.tools.objects import INPUTS, POD_UID, all_objects, generated_secrets

__all__ = ["INPUTS", "POD_UID", "all_objects", "generated_secrets"]

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

APART: dict[str, Any] = {
    "redis": {"development": True},
    "mongodb": {"url": "mongodb://db.example/chat"},
    "postgresql": {
        "urlFrom": {"secret": {"name": "people", "key": "url"}},
        "tls": {"caSecret": {"name": "people", "key": "ca.crt"}},
    },
}
"""The directory of people apart from the messages."""

SPECS = {
    "small": SMALL,
    "full": FULL,
    "gateway": GATEWAY,
    "mongo": MONGO,
    "sentinel": SENTINEL,
    "apart": APART,
}


def cluster_of(spec: dict[str, Any], name: str = "talk", namespace: str = "apps") -> ChatCluster:
    resource = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    return msgspec.convert(resource, ChatCluster)


def chat_pod(cluster: ChatCluster, inputs: Inputs = INPUTS) -> Manifest:
    (pod,) = of_kind(all_objects(cluster, inputs), "Pod").values()
    return pod


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
