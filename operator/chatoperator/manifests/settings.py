"""What the pods of a cluster are told: which settings go into which ConfigMap.

A kind of pod is told only what it uses, so that a change of anything else neither changes its ConfigMap nor makes new
pods. What may change while a pod runs is in one ConfigMap for all of them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from chatkernel.settings import SOCKET_PATH, ServiceSettings
from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.manifests.sources import Role, Source, servers
from chatoperator.model import PodKind
from chatoperator.place import PodSpec
from chatoperator.podsettings import Surroundings, live_settings, service_settings
from chatoperator.revision import revision_of
from chatoperator.spec import ChatCluster

HASH_CHARS = 10

_SERVER = ("url", "url_file", "ca_file", "insecure")
_SERVERS = tuple(f"{role}_{field}" for role in Role for field in _SERVER)
_ALL = (
    "cluster",
    "revision",
    "secret_file",
    "live_file",
    "region",
    "port",
    "key_prefix",
    "presence",
    *_SERVERS,
)
_RECEIPTS = ("receipt_interval_s", "receipt_members_max")
_LEASE = ("lease_s", "lease_renew_s")

TOLD: dict[str, tuple[str, ...]] = {
    names.CHAT: (*_ALL, *_RECEIPTS, *_LEASE, "auth", "public_url", "capacity", "hello_timeout_s"),
    names.API: (*_ALL, *_RECEIPTS, "auth", "public_url", "retention_s"),
    names.WORKER: (*_ALL, *_LEASE, "retention_s"),
    names.PROBE: (*_ALL, "auth", "api_url"),
}
"""Fields of ServiceSettings that each kind of pod uses; the others keep their defaults."""

KINDS = {
    names.CHAT: PodKind.CHAT,
    names.API: PodKind.API,
    names.WORKER: PodKind.WORKER,
    names.PROBE: PodKind.API,
}
"""Whose revision a component's settings carry: the probe knows of the cluster what the API does."""


def settings_file(cluster: ChatCluster, component: str) -> str:
    """The text of `settings.json`. Raises SourceError."""
    settings = msgspec.to_builtins(_settings(cluster, component))
    told = {name: settings[name] for name in TOLD[component] if settings[name] not in ("", False)}
    return _text(told)


def live_file(cluster: ChatCluster) -> str:
    """The text of `live.json`."""
    return _text(msgspec.to_builtins(live_settings(cluster.spec)))


def live_hash(cluster: ChatCluster) -> str:
    """Of the live settings: the value of the annotation `names.LIVE`."""
    return short_hash(live_file(cluster))


def settings_map(cluster: ChatCluster, inputs: Inputs, component: str) -> Manifest:
    """The ConfigMap of a Deployment's pods. Raises SourceError."""
    name = names.of(cluster.metadata.name, component)
    return config_map(
        cluster, inputs, name, component, {names.SETTINGS_KEY: settings_file(cluster, component)}
    )


def live_map(cluster: ChatCluster, inputs: Inputs) -> Manifest:
    """The ConfigMap that all pods look at while they run."""
    name = names.live(cluster.metadata.name)
    return config_map(cluster, inputs, name, "live", {names.LIVE_KEY: live_file(cluster)})


def config_map(
    cluster: ChatCluster, inputs: Inputs, name: str, component: str, data: dict[str, str]
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(cluster, owner_of(cluster, inputs), name, component),
        "data": data,
    }


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def api_url(cluster: ChatCluster) -> str:
    """Where the API is: from outside, if it is reached from there, else from inside of Kubernetes."""
    exposure = cluster.spec.exposure
    if exposure is not None:
        return f"http{'s' if exposure.tls else ''}://{exposure.host}"
    return inside_url(cluster)


def inside_url(cluster: ChatCluster) -> str:
    """Where the API is for who is inside."""
    return f"http://{names.of(cluster.metadata.name, names.API)}.{cluster.metadata.namespace}.svc"


def socket_url(cluster: ChatCluster) -> str:
    """A chat pod's, with placeholders for its name and address."""
    exposure = cluster.spec.exposure
    if exposure is not None:
        return f"ws{'s' if exposure.tls else ''}://{exposure.host}{names.pod_path('{pod}')}"
    return f"ws://{{ip}}:{names.PORT}{SOCKET_PATH}"


def _settings(cluster: ChatCluster, component: str) -> ServiceSettings:
    kind = KINDS[component]
    around = Surroundings(
        redis_url="",
        store_url="",
        secret_file=f"{names.KEYS_DIR}/{names.KEYS_KEY}",
        api_url=api_url(cluster),
        live_file=f"{names.LIVE_DIR}/{names.LIVE_KEY}",
    )
    revision = revision_of(cluster.spec, kind)
    plain = service_settings(PodSpec(kind, revision, cluster), "", names.PORT, around)
    auth = plain.auth
    if kind is PodKind.CHAT:  # which sees tickets only, and where a browser comes from
        auth = type(auth)(allowed_origins=auth.allowed_origins)
    where: dict[str, Any] = {}
    for server in servers(cluster):
        where |= _server(server)
    return msgspec.structs.replace(
        plain,
        cluster=names.identity(cluster.metadata.namespace, cluster.metadata.name),
        auth=auth,
        public_url=socket_url(cluster) if component == names.CHAT else plain.public_url,
        api_url=inside_url(cluster),
        **where,
    )


def _server(server: Source) -> dict[str, Any]:
    role = server.role
    values = {
        "url": server.url,
        "url_file": role.url_file if server.secret else "",
        "ca_file": role.ca_file if server.tls.ca_secret else "",
        "insecure": server.tls.insecure_skip_verify,
    }
    return {f"{role}_{field}": values[field] for field in _SERVER}


def _text(content: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2).decode() + "\n"
