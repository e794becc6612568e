"""Stores that are the test's own, and a Secret with their URLs: as a person has them who does not develop."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from cluster.kit import pods
from cluster.kit.api import Api, is_ready
from cluster.kit.kubectl import Kubectl, Manifest
from cluster.machine.images import MONGODB, POSTGRESQL, REDIS

PORTS = {"redis": 6379, "postgresql": 5432, "mongodb": 27017}
PASSWORD = "right"
SECRET = "stores"
STARTED_S = 90.0


def url_from(key: str, secret: str = SECRET) -> Mapping[str, object]:
    """What the resource says of a store whose URL is in the Secret."""
    return {"urlFrom": {"secret": {"name": secret, "key": key}}}


class Outside:
    """In one namespace."""

    def __init__(self, api: Api, kubectl: Kubectl) -> None:
        self._api, self._kubectl = api, kubectl

    def urls(self, password: str = PASSWORD, database: str = "chat") -> dict[str, str]:
        at = {name: f"{name}.{self._kubectl.namespace}.svc:{port}" for name, port in PORTS.items()}
        return {
            "redis": f"redis://:{password}@{at['redis']}/0",
            "postgresql": f"postgresql://chat:{password}@{at['postgresql']}/{database}",
            "mongodb": f"mongodb://{at['mongodb']}/{database}",
        }

    def secret(self, urls: Mapping[str, str], name: str = SECRET) -> None:
        data = {key: base64.b64encode(url.encode()).decode() for key, url in urls.items()}
        self._kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})

    def services(self, *names: str) -> None:
        """Their addresses, whether or not anybody is there."""
        self._kubectl.apply(*(pods.service(name, {"app": name}, PORTS[name]) for name in names))

    async def start(self, *names: str) -> None:
        self._kubectl.apply(*(_server(name) for name in names))
        await self._api.until(
            f"/api/v1/namespaces/{self._kubectl.namespace}/pods",
            lambda found: all(name in found and is_ready(found[name]) for name in names),
            STARTED_S,
            f"{', '.join(names)} run",
        )


def _server(name: str) -> Manifest:
    probe = {"tcpSocket": {"port": PORTS[name]}}
    if name == "redis":
        command = ["redis-server", "--save", "", "--requirepass", PASSWORD]
        return pods.pod(name, command, image=REDIS, folders=["/data"], probe=probe)
    if name == "mongodb":
        return pods.pod(name, [], image=MONGODB, folders=["/tmp"], probe=probe)
    folders = ["/var/lib/postgresql/data", "/tmp", "/var/run/postgresql"]
    env = {"POSTGRES_USER": "chat", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "chat"}
    return pods.pod(name, [], image=POSTGRESQL, folders=folders, env=env, probe=probe)
