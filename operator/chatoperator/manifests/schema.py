"""The Job that makes the store's tables and indexes."""

from __future__ import annotations

import msgspec

from chatoperator.manifests import names, sources
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of, resolved
from chatoperator.manifests.podtemplate import Part, own_sizes, pod_template, variable
from chatoperator.manifests.settings import short_hash
from chatoperator.manifests.sources import Source
from chatoperator.manifests.volumes import scratch, trust, url_volume
from chatoperator.schemajob import (
    PLACEMENT_ENV,
    REFUSED,
    STORE_CA_ENV,
    STORE_ENV,
    STORE_FILE_ENV,
    STORE_INSECURE_ENV,
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
    store = sources.store(cluster)
    volumes = [*url_volume("store", store), *trust((store, sources.STORE_CA)), scratch()]
    part = Part(
        component=names.SCHEMA,
        command=("python", "-m", "chatoperator.schemajob"),
        template=own_sizes(cluster.spec.worker.pod),
        resources=_SIZE,
        grace_s=30,
        env=tuple(_env(cluster, store)),
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


def _env(cluster: ChatCluster, store: Source) -> list[Manifest]:
    made = [variable(PLACEMENT_ENV, msgspec.json.encode(placement(cluster.spec), order="sorted").decode())]
    if store.secret is not None:
        made.append(variable(STORE_FILE_ENV, f"{names.STORE_DIR}/{names.URL_KEY}"))
    else:
        made.append(variable(STORE_ENV, store.url))
    if store.tls.ca_secret is not None:
        made.append(variable(STORE_CA_ENV, f"{names.TRUST_DIR}/{sources.STORE_CA}"))
    if store.tls.insecure_skip_verify:
        made.append(variable(STORE_INSECURE_ENV, "1"))
    return made
