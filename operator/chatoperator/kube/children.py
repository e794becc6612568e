"""Keeps the objects of a cluster as they are to be: makes what is missing, puts back what was changed.

Nothing is sent while nothing has changed. Whether a live object is as wanted is seen here, without a request: its
annotation holds the hash of the manifest that was last applied, and every field of the manifest has the value wanted.
Where the API server writes a value in its own way (`0.5` CPU as `500m`) that comparison fails: then the manifest is
applied once, and the API server says by the resource version whether anything was different.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence

import msgspec

from chatoperator.kube.cache import APPLIED, Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import Conflict, KubeError, NotFound
from chatoperator.kube.kinds import (
    CHILDREN,
    CONTROLLER_REVISION,
    JOB,
    Kind,
    Object,
    annotations_of,
    kind_of,
    labels_of,
    name_of,
    namespace_of,
    owner_uids,
    uid_of,
    version_of,
)
from chatoperator.kube.refusals import Refusals
from chatoperator.manifests.names import LABEL_REVISION

log = logging.getLogger(__name__)

HASH_CHARS = 16
KEPT_BY_OTHERS = (JOB, CONTROLLER_REVISION)
"""Kinds whose objects come and go by rules of their own: not removed here."""

Id = tuple[Kind, str]
"""Kind and name, within the namespace of the cluster."""


class Outcome(msgspec.Struct):
    """What a round of `ensure` has done. `put_back`: what somebody had changed. `failed`: in the order of trying."""

    put_back: list[str] = []
    removed: list[str] = []
    made: int = 0
    failed: list[KubeError] = []


class Wanted(msgspec.Struct, frozen=True):
    """A manifest and its hash."""

    manifest: Object
    digest: str

    @property
    def id(self) -> Id:
        return kind_of(self.manifest), name_of(self.manifest)


def prepare(manifests: Iterable[Object]) -> list[Wanted]:
    """Hashed once, and not at each look."""
    return [Wanted(manifest, digest_of(manifest)) for manifest in manifests]


class Children:
    """Of one cluster."""

    def __init__(self, client: KubeClient, cache: Cache, refusals: Refusals) -> None:
        self._client, self._cache, self._refusals = client, cache, refusals
        self._settled: dict[Id, int] = {}
        """The resource version at which an object was found to be as wanted."""

    async def ensure(self, wanted: Sequence[Wanted]) -> Outcome:
        """What fails holds up nothing else. The API server not answering is tried once and not for each object."""
        outcome = Outcome()
        # What is not wanted any more, as that of a pod that is gone, is not remembered.
        self._settled = {one.id: self._settled[one.id] for one in wanted if one.id in self._settled}
        for one in wanted:
            try:
                await self._ensure(one, outcome)
            except KubeError as error:
                outcome.failed.append(error)
                if error.status == 0:
                    break
        return outcome

    async def remove_others(self, namespace: str, cluster: str, wanted: Sequence[Wanted]) -> Outcome:
        """Deletes what has an owner of what is wanted (the cluster, or one of its pods), and is not wanted any more.
        Not revisions; nor what is owned by a pod of which nothing is wanted: its clients may still go by that."""
        outcome = Outcome()
        keep = {one.id for one in wanted}
        owners = {uid for one in wanted for uid in owner_uids(one.manifest)}
        for kind in CHILDREN:
            if kind in KEPT_BY_OTHERS:
                continue
            for live in self._cache[kind].of(namespace, cluster):
                is_ours = bool(owners & owner_uids(live)) and LABEL_REVISION not in labels_of(live)
                if not is_ours or (kind, name_of(live)) in keep or is_going(live):
                    continue
                try:
                    with self._refusals(("delete", kind, name_of(live))):
                        await remove(self._client, self._cache, kind, live)
                    outcome.removed.append(f"{kind.name} {name_of(live)}")
                except KubeError as error:
                    outcome.failed.append(error)
        return outcome

    async def _ensure(self, wanted: Wanted, outcome: Outcome) -> None:
        (kind, name), manifest = wanted.id, wanted.manifest
        store = self._cache[kind]
        live = store.get(namespace_of(manifest), name)
        same = live is not None and annotations_of(live).get(APPLIED) == wanted.digest
        if live is not None and same:
            version = version_of(live)
            if self._settled.get((kind, name)) == version:
                return
            if covers(live, _content(manifest)):
                self._settled[kind, name] = version
                return
        with self._refusals(("apply", *wanted.id), wanted.digest):
            applied = await self._client.apply(_marked(manifest, wanted.digest))
        store.put(applied)
        self._settled[kind, name] = version_of(applied)
        if live is None:
            outcome.made += 1
        elif same and version_of(applied) != version_of(live):
            outcome.put_back.append(f"{kind.name} {name}")


async def create_once(client: KubeClient, cache: Cache, manifest: Object) -> bool:
    """Makes an object that never changes; one that is there is left as it is. Whether it was made."""
    store = cache[kind_of(manifest)]
    if store.get(namespace_of(manifest), name_of(manifest)) is not None:
        return False
    try:
        store.put(await client.create(manifest))
    except Conflict:
        return False
    return True


async def remove(
    client: KubeClient, cache: Cache, kind: Kind, live: Object, grace_s: float | None = None
) -> None:
    """One that is gone already is no failure; neither is another one of its name."""
    namespace, name = namespace_of(live), name_of(live)
    try:
        left = await client.delete(kind, namespace, name, uid_of(live), grace_s)
    except (NotFound, Conflict):
        return
    if uid_of(left) if "metadata" in left else "":
        cache[kind].put(left)


def is_going(live: Object) -> bool:
    return bool(live["metadata"].get("deletionTimestamp"))


def digest_of(manifest: Object) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest, order="deterministic")).hexdigest()[:HASH_CHARS]


def covers(live: object, wanted: object) -> bool:
    """Whether every field of `wanted` has its value in `live`, which may have more: defaults, and others' fields.

    Items of lists are found by their name if they have one, as the API server merges most of them. A list that has
    grown is another one: a rule more in a NetworkPolicy lets somebody in."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            key in live and covers(live[key], value)
            for key, value in wanted.items()
            if value not in (None, {}, [])
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and _covers_items(live, wanted)
    return live == wanted


def _covers_items(live: list[object], wanted: list[object]) -> bool:
    named = {item["name"]: item for item in live if isinstance(item, dict) and "name" in item}
    for index, item in enumerate(wanted):
        other = named.get(item["name"]) if isinstance(item, dict) and "name" in item else live[index]
        if not covers(other, item):
            return False
    return True


def _content(manifest: Object) -> Object:
    """Lists leave out of their items what kind they are."""
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}


def _marked(manifest: Object, digest: str) -> Object:
    annotations = {**annotations_of(manifest), APPLIED: digest}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
