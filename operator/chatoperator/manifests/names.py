"""The names that the parts of a cluster find each other by: labels, annotations, objects, ports, paths."""

from __future__ import annotations

GROUP = "chatcluster.dev"
VERSION = "v1alpha1"
PLURAL = "chatclusters"
FIELD_MANAGER = "chatcluster-operator"

# Labels. The first four are Kubernetes' own recommended ones.
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_CLUSTER = f"{GROUP}/cluster"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_POD = f"{GROUP}/pod"
"""On a chat pod: its own name, so that a Service can select one pod."""
LABEL_METRICS = f"{GROUP}/metrics"
"""On a Service: whose pods Prometheus asks."""

# Annotations.
DRAIN = f"{GROUP}/drain"
"""On a chat pod: when it was decided that it goes (RFC 3339). Survives the operator."""
CONDEMNED = f"{GROUP}/condemned"
"""On a chat pod: a person wants it replaced, then drained."""
REBALANCE = f"{GROUP}/rebalance"
"""On a ChatCluster: when a person asked for a round of rebalancing (RFC 3339)."""
LIVE = f"{GROUP}/live"
"""On a pod: the hash of the live settings; its change makes the kubelet look at once."""
SETTINGS = f"{GROUP}/settings"
"""On the pods of a Deployment: the hash of their settings, so that a change replaces them."""
RELEASE = f"{GROUP}/release"
"""On a pod: `spec.version`."""

APP = "chatcluster"
MANAGED_BY = FIELD_MANAGER

CHAT, API, WORKER, PROBE, SCHEMA = "chat", "api", "worker", "probe", "schema"
"""Components."""
REDIS, POSTGRESQL, MONGODB = "redis", "postgresql", "mongodb"
"""Components of a cluster with `development: true`."""

PORT = 8080
"""What every service of ours listens on, in a pod."""
PORT_NAME = "http"

SERVICE_PORT = 80
"""What the API's Service listens on."""

SETTINGS_DIR = "/etc/chat/settings"
SETTINGS_KEY = "settings.json"
LIVE_DIR = "/etc/chat/live"
LIVE_KEY = "live.json"
KEYS_DIR = "/etc/chat/keys"
KEYS_KEY = "keys.json"
REDIS_DIR = "/etc/chat/redis"
STORE_DIR = "/etc/chat/store"
DIRECTORY_DIR = "/etc/chat/directory"
URL_KEY = "url"
"""The file in each of them that holds the URL."""
TRUST_DIR = "/etc/chat/trust"
"""CA certificates: `redis.crt`, `store.crt`, `directory.crt`."""

POD_NAME_ENV = "CHAT_POD"
POD_IP_ENV = "CHAT_POD_IP"


def labels(cluster: str, component: str) -> dict[str, str]:
    """Those of every object of a cluster."""
    return {**selector(cluster, component), LABEL_NAME: APP, LABEL_MANAGED_BY: MANAGED_BY}


def selector(cluster: str, component: str) -> dict[str, str]:
    """What selects the pods of a component."""
    return {LABEL_INSTANCE: cluster, LABEL_CLUSTER: cluster, LABEL_COMPONENT: component}


def of(cluster: str, component: str) -> str:
    """The name of a cluster's only object of this component: `talk-api`."""
    return f"{cluster}-{component}"


def of_revision(cluster: str, revision: str) -> str:
    """ConfigMap and ControllerRevision of a revision of chat pods."""
    return f"{cluster}-{CHAT}-{revision}"


def live(cluster: str) -> str:
    """The ConfigMap of what changes without new pods."""
    return f"{cluster}-live"


def keys(cluster: str) -> str:
    """The Secret of the signing keys."""
    return f"{cluster}-keys"


def identity(namespace: str, cluster: str) -> str:
    """Whose keys in Redis these are: the same name may be that of another cluster in another namespace."""
    return f"{namespace}/{cluster}"


def pods_account(cluster: str) -> str:
    """The ServiceAccount of all pods of a cluster. It may do nothing."""
    return f"{cluster}-pods"


def development(cluster: str) -> str:
    """The Secret of the development stores' generated passwords and URLs."""
    return f"{cluster}-development"


def pod_path(pod: str) -> str:
    """Where one chat pod's socket is, on the cluster's host."""
    return f"/pods/{pod}/v1/socket"
