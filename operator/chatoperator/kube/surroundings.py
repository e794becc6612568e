"""What a cluster needs round its chat pods: Secrets, the way to Redis, children, the store's tables.

Nothing here stops at the first problem: a Secret that is missing does not keep a Service from being made.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

from chatkernel.opstoken import ops_token
from chatoperator.facts import Finding
from chatoperator.kube.children import Children, Wanted, prepare
from chatoperator.kube.errors import KubeError
from chatoperator.kube.findings import problem_of_error
from chatoperator.kube.kinds import DEPLOYMENT, SECRET, name_of, uid_of
from chatoperator.kube.link import RedisLink
from chatoperator.kube.place import KubePlace
from chatoperator.kube.refusals import Refusals
from chatoperator.kube.schema import SchemaStep
from chatoperator.kube.secrets import ClusterSecrets, SecretProblem
from chatoperator.kube.shared import Shared
from chatoperator.kube.telling import Telling
from chatoperator.manifests import build, chatpod, keys, names
from chatoperator.manifests.inputs import Inputs
from chatoperator.manifests.sources import SourceError
from chatoperator.reasons import Reason
from chatoperator.spec import ChatCluster

log = logging.getLogger(__name__)

ON_SCHEMA = (names.API, names.WORKER, names.PROBE)
"""Deployments that are left as they are until the store's tables are made."""


class Tended(Struct):
    """What a round has found. `may_start`: pods that are started now have all that they need, besides the store's
    tables: of these `has_tables` tells."""

    storage: Finding = Finding(Reason.NOT_LOOKED_AT)
    registry: Finding | None = None
    problems: list[Finding] = []
    may_start: bool = True
    has_tables: bool = False
    lacks_secret: bool = False
    """A generated one is somebody else's, or of a cluster of before: nothing is made or changed that reads it."""


class Surroundings:
    """Of one cluster."""

    def __init__(
        self,
        shared: Shared,
        uid: str,
        link: RedisLink,
        place: KubePlace,
        telling: Telling,
        *,
        refusals: Refusals,
    ) -> None:
        """`uid`: of its resource."""
        self._cache, self._refusals = shared.cache, refusals
        self._link, self._place, self._telling = link, place, telling
        self._secrets = ClusterSecrets(shared.client, shared.cache, shared.trust / uid)
        self._children = Children(shared.client, shared.cache, refusals, uid)
        self._schema = SchemaStep(shared.client, shared.cache, refusals)
        self._built: tuple[object, list[Wanted]] | None = None

    def close(self) -> None:
        self._secrets.close()

    async def tend(
        self, cluster: ChatCluster, inputs: Inputs, gone_back: ChatCluster | None
    ) -> tuple[Tended, Inputs]:
        """`gone_back`: what Deployments are to run instead, since what the resource asks for was given up. Raises
        KubeError only when the API server cannot be reached at all."""
        found = Tended()
        inputs = await self._read_secrets(cluster, inputs, found)
        if not cluster.spec.pause:
            if not found.lacks_secret:
                await self._look_at_schema(cluster, inputs, found)
            await self._keep_children(
                gone_back or cluster, inputs, found, has_gone_back=gone_back is not None
            )
        return found, inputs

    async def _read_secrets(self, cluster: ChatCluster, inputs: Inputs, found: Tended) -> Inputs:
        """Ours are made; what is in those of the resource becomes the link to Redis, and ports."""
        replace = msgspec.structs.replace
        foreign = self._secrets.foreign(cluster, inputs)
        found.problems += [
            Finding(Reason.NAME_TAKEN, f"Secret {name} {why}") for name, why in foreign.items()
        ]
        not_ours = foreign.keys() | self._secrets.leaving(cluster, inputs)
        if not_ours:
            found.may_start, found.lacks_secret = False, True
        else:
            await self._make_secrets(cluster, found)
        if names.development(cluster.metadata.name) in not_ours:
            return inputs  # it would name the Redis and the stores
        try:
            url, redis_ports = await self._secrets.redis(cluster)
            inputs = replace(inputs, redis_ports=redis_ports)
            await self._link.open(cluster, url)
        except SecretProblem as error:
            found.registry = _finding(error)
            found.may_start = False
        except KubeError as error:
            _note(error, found)
        try:
            inputs = replace(inputs, store_ports=await self._secrets.store_ports(cluster))
        except SecretProblem as error:
            found.storage = _finding(error)
            found.may_start = False
        except KubeError as error:
            _note(error, found)
        return inputs

    async def _make_secrets(self, cluster: ChatCluster, found: Tended) -> None:
        try:
            if not cluster.spec.pause:
                with self._refusals("make Secrets"):
                    made = await self._secrets.ensure(cluster)
                for name in made:
                    self._telling.note("SecretMade", f"Made the Secret {name}")
            self._place.token = ops_token(await self._secrets.signing_keys(cluster))
        except SecretProblem as error:
            found.problems.append(_finding(error))
            found.may_start = False
        except KubeError as error:
            _note(error, found)

    async def _keep_children(
        self, cluster: ChatCluster, inputs: Inputs, found: Tended, *, has_gone_back: bool
    ) -> None:
        wanted = self._build(cluster, inputs)
        namespace, name = cluster.metadata.namespace, cluster.metadata.name
        # Services end when the store's tables are not those of their version, and wait ever longer to start again.
        # Those of the last good one are there: what makes tables takes nothing away.
        may_change = self._schema.is_done or has_gone_back
        held = [] if may_change else [(DEPLOYMENT, names.of(name, part)) for part in ON_SCHEMA]
        if found.lacks_secret:
            held = [one.id for one in wanted if one.id[0] is DEPLOYMENT]
        done = await self._children.ensure([one for one in wanted if one.id not in held])
        gone = await self._children.remove_others(namespace, name, wanted)
        self._telling.put_back(done.put_back)
        self._telling.removed(gone.removed)
        for error in [*done.failed, *gone.failed]:
            _note(error, found)

    def _build(self, cluster: ChatCluster, inputs: Inputs) -> list[Wanted]:
        """Built when something has changed that they depend on. Raises SourceError."""
        secrets = self._secrets_there(cluster)
        pods = [
            (name_of(pod), uid_of(pod)) for pod in self._place.pods() if cluster.spec.exposure is not None
        ]
        key = (cluster, inputs, secrets, pods)
        if self._built is None or self._built[0] != key:
            manifests = build.children(cluster, inputs)
            manifests += [keys.ownership(cluster, inputs, *secret) for secret in secrets]
            for name, uid in pods:
                manifests += chatpod.pod_exposure(cluster, name, uid)
            self._built = key, prepare(manifests)
        return self._built[1]

    def _secrets_there(self, cluster: ChatCluster) -> list[tuple[str, str]]:
        """Names and UIDs of those that were generated."""
        store, namespace = self._cache[SECRET], cluster.metadata.namespace
        seen = ((name, store.get(namespace, name)) for name in keys.wanted(cluster))
        return [(name, uid_of(secret)) for name, secret in seen if secret is not None]

    async def _look_at_schema(self, cluster: ChatCluster, inputs: Inputs, found: Tended) -> None:
        if found.storage.reason is not Reason.NOT_LOOKED_AT:
            return
        try:
            found.storage = await self._schema.look(cluster, inputs)
        except KubeError as error:
            _note(error, found)
        # An image that no node can get makes no tables, and no pod either: as a pod it is given up in time.
        found.has_tables = self._schema.is_done or self._schema.lacks_image


def invalid_source(error: SourceError) -> Finding:
    return Finding(Reason.INVALID_SPEC, str(error))


def _finding(error: SecretProblem) -> Finding:
    return Finding(Reason.SECRET_MISSING if error.missing else Reason.SECRET_INVALID, str(error))


def _note(error: KubeError, found: Tended) -> None:
    problem = problem_of_error(error)
    if problem is not None:
        found.problems.append(problem)
    else:
        log.warning("not done", extra={"error": str(error)})
