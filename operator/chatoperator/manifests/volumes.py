"""What is mounted into a pod: its settings, the live ones, keys, URLs, trusted certificates, and a place to write."""

from __future__ import annotations

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Manifest
from chatoperator.manifests.security import SECRET_MODE
from chatoperator.manifests.sources import DIRS, Source, servers
from chatoperator.spec import ChatCluster, SecretKey

SCRATCH_SIZE = "64Mi"
"""Of /tmp. No service writes anything of size there."""

CONFIG_MODE = 0o444

_PATHS = {
    "settings": names.SETTINGS_DIR,
    "live": names.LIVE_DIR,
    "keys": names.KEYS_DIR,
    **{str(role): path for role, path in DIRS.items()},
    "trust": names.TRUST_DIR,
    "scratch": "/tmp",  # noqa: S108 - the root is read-only
}


def volumes(cluster: ChatCluster, settings_map: str) -> list[Manifest]:
    """Those of a service's pod, in a fixed order. Raises SourceError."""
    name = cluster.metadata.name
    used = servers(cluster)
    return [
        _config("settings", settings_map, names.SETTINGS_KEY),
        _config("live", names.live(name), names.LIVE_KEY),
        _secret("keys", SecretKey(name=names.keys(name), key=names.KEYS_KEY), names.KEYS_KEY),
        *urls(used),
        *trust(used),
        scratch(),
    ]


def urls(used: tuple[Source, ...]) -> list[Manifest]:
    """One volume for each URL that a Secret holds."""
    return [_secret(str(one.role), one.secret, names.URL_KEY) for one in used if one.secret is not None]


def trust(used: tuple[Source, ...]) -> list[Manifest]:
    """One volume with the CA certificates of those that have one."""
    projected = [
        {"secret": {"name": ca.name, "items": [_item(ca.key, one.role.ca_key)]}}
        for one in used
        if (ca := one.tls.ca_secret) is not None
    ]
    if not projected:
        return []
    return [{"name": "trust", "projected": {"sources": projected, "defaultMode": SECRET_MODE}}]


def scratch() -> Manifest:
    return {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_SIZE}}


def mounts(of: list[Manifest]) -> list[Manifest]:
    """Where the container finds them. Directories: a single file that is mounted never changes."""
    return [
        {"name": volume["name"], "mountPath": _PATHS[volume["name"]]}
        | ({} if volume["name"] == "scratch" else {"readOnly": True})
        for volume in of
    ]


def _config(volume: str, name: str, key: str) -> Manifest:
    return {
        "name": volume,
        "configMap": {"name": name, "items": [_item(key, key)], "defaultMode": CONFIG_MODE},
    }


def _secret(volume: str, key: SecretKey, file: str) -> Manifest:
    return {
        "name": volume,
        "secret": {"secretName": key.name, "items": [_item(key.key, file)], "defaultMode": SECRET_MODE},
    }


def _item(key: str, path: str) -> Manifest:
    return {"key": key, "path": path}
