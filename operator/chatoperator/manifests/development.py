"""Redis and a store for trying out: one pod each, whose data goes with it."""

from __future__ import annotations

from msgspec import Struct

from chatoperator.manifests import names, sources
from chatoperator.manifests.deployments import deployment
from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.manifests.podtemplate import resources, variable, without_empty
from chatoperator.manifests.ports import DEFAULT
from chatoperator.manifests.security import container_context, pod_context
from chatoperator.manifests.services import service
from chatoperator.spec import ChatCluster, Resources

USER = "chat"
DATABASE = "chat"
PASSWORD_KEY = "password"  # noqa: S105 - the name of a key
PASSWORD_ENV = "CHAT_DEVELOPMENT_PASSWORD"  # noqa: S105 - the name of a variable

USER_ID = 999
"""Whom the official images of these servers know."""

_SIZE = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "1Gi"})


class Server(Struct, frozen=True):
    """By the interface of the official images. `writes`: where it writes; the rest is read-only."""

    image: str
    writes: tuple[str, ...]
    env: tuple[Manifest, ...] = ()
    command: tuple[str, ...] = ()
    """Empty: the image's own."""


def secrets(cluster: ChatCluster, password: str) -> dict[str, str]:
    """What the Secret `names.development` holds."""
    redis, postgresql, mongodb = (
        f"{names.of(cluster.metadata.name, one)}.{cluster.metadata.namespace}.svc:{DEFAULT[one]}"
        for one in (names.REDIS, names.POSTGRESQL, names.MONGODB)
    )
    return {
        PASSWORD_KEY: password,
        sources.url_key(names.REDIS): f"redis://:{password}@{redis}/0",
        sources.url_key(names.POSTGRESQL): f"postgresql://{USER}:{password}@{postgresql}/{DATABASE}",
        # Without a password: only the cluster's own pods are let in, by NetworkPolicy.
        sources.url_key(names.MONGODB): f"mongodb://{mongodb}/{DATABASE}",
    }


def objects(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """Deployments and Services of what says `development: true`. Raises SourceError."""
    run = [source.component for source in sources.servers(cluster) if source.development]
    return [one for component in run for one in _objects(cluster, inputs, component)]


def _objects(cluster: ChatCluster, inputs: Inputs, component: str) -> list[Manifest]:
    server = _server(cluster, inputs, component)
    port = DEFAULT[component]
    template = _template(cluster, component, server, port)
    strategy = {"type": "Recreate"}  # two at once would be two stores
    made = deployment(cluster, inputs, component, template, replicas=1, strategy=strategy)
    return [service(cluster, inputs, component, port, port), made]


def _server(cluster: ChatCluster, inputs: Inputs, component: str) -> Server:
    secret = {"name": names.development(cluster.metadata.name), "key": PASSWORD_KEY}
    if component == names.REDIS:
        password = {"name": PASSWORD_ENV, "valueFrom": {"secretKeyRef": secret}}
        in_memory = ("--dir", "/data", "--save", "", "--appendonly", "no")
        command = ("redis-server", *in_memory, "--requirepass", f"$({PASSWORD_ENV})")
        return Server(inputs.development.redis, ("/data",), (password,), command)
    if component == names.POSTGRESQL:
        data = "/var/lib/postgresql/data"
        env = (
            variable("POSTGRES_USER", USER),
            variable("POSTGRES_DB", DATABASE),
            variable("PGDATA", f"{data}/pgdata"),
            {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": secret}},
        )
        return Server(inputs.development.postgresql, (data, "/var/run/postgresql"), env)
    return Server(inputs.development.mongodb, ("/data/db", "/data/configdb"))


def _template(cluster: ChatCluster, component: str, server: Server, port: int) -> Manifest:
    places = [*server.writes, "/tmp"]  # noqa: S108 - the root is read-only
    ids = {"runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID}
    check = {"tcpSocket": {"port": port}, "periodSeconds": 2, "timeoutSeconds": 2}
    container: Manifest = {
        "name": component,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(server.command),
        "env": list(server.env),
        "ports": [{"name": component, "containerPort": port, "protocol": "TCP"}],
        "resources": resources(Resources(), _SIZE),
        "securityContext": container_context({}),
        "volumeMounts": [{"name": f"data-{n}", "mountPath": path} for n, path in enumerate(places)],
        "readinessProbe": {**check, "failureThreshold": 3},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "metadata": {"labels": names.labels(cluster.metadata.name, component)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "serviceAccountName": names.pods_account(cluster.metadata.name),
            "securityContext": pod_context(ids),
            "terminationGracePeriodSeconds": 30,
            "containers": [without_empty(container)],
            "volumes": [{"name": f"data-{n}", "emptyDir": {}} for n in range(len(places))],
        },
    }
