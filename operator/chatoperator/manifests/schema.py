"""The Job that makes the store's tables and indexes."""

from __future__ import annotations

import msgspec

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of, resolved
from chatoperator.manifests.podtemplate import Part, own_sizes, pod_template, variable
from chatoperator.manifests.settings import short_hash
from chatoperator.manifests.sources import Role, Source, stores
from chatoperator.manifests.volumes import scratch, trust, urls
from chatoperator.schemajob import (
    CA_FILE_SUFFIX,
    DIRECTORY_ENV,
    FILE_SUFFIX,
    INSECURE_SUFFIX,
    PLACEMENT_ENV,
    REFUSED,
    STORE_ENV,
)
from chatoperator.spec import ChatCluster, Resources
from chatoperator.storesource import placement

TRIES = 4
"""Pods, with 10, 20 and 40 s between them; then the Job has failed, and the operator makes it again in time."""

_SIZE = Resources(requests={"cpu": "50m", "memory": "96Mi"}, limits={"memory": "512Mi"})


def job(cluster: ChatCluster, inputs: Inputs) -> Manifest:
    """Its name is another one whenever there may be something to do: another image, another store. It is never
    changed; of other names those with the component `schema` are done with. Raises SourceError."""
    cluster = resolved(cluster, inputs)
    spec = _spec(cluster)
    told = short_hash(msgspec.json.encode(spec, order="sorted").decode())
    name = f"{names.of(cluster.metadata.name, names.SCHEMA)}-{told}"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(cluster, owner_of(cluster, inputs), name, names.SCHEMA),
        "spec": spec,
    }


def _spec(cluster: ChatCluster) -> Manifest:
    used = stores(cluster)
    volumes = [*urls(used), *trust(used), scratch()]
    part = Part(
        component=names.SCHEMA,
        command=("python", "-m", "chatoperator.schemajob"),
        template=own_sizes(cluster.spec.worker.pod),
        resources=_SIZE,
        grace_s=30,
        env=tuple(_env(cluster, used)),
        volumes=tuple(volumes),
        listens=False,
        restart="Never",
    )
    return {
        "backoffLimit": TRIES - 1,
        # Trying again cannot help: the message of the pod says why.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": names.SCHEMA, "operator": "In", "values": [REFUSED]},
                }
            ]
        },
        "template": pod_template(cluster, part),
    }


def _env(cluster: ChatCluster, used: tuple[Source, ...]) -> list[Manifest]:
    made = [variable(PLACEMENT_ENV, msgspec.json.encode(placement(cluster.spec), order="sorted").decode())]
    for one in used:
        name = STORE_ENV if one.role is Role.STORE else DIRECTORY_ENV
        if one.secret is not None:
            made.append(variable(f"{name}{FILE_SUFFIX}", one.role.url_file))
        else:
            made.append(variable(name, one.url))
        if one.tls.ca_secret is not None:
            made.append(variable(f"{name}{CA_FILE_SUFFIX}", one.role.ca_file))
        if one.tls.insecure_skip_verify:
            made.append(variable(f"{name}{INSECURE_SUFFIX}", "1"))
    return made
