"""Keeps the objects of a cluster as they are to be: makes what is missing, puts back what was changed, and takes away
what was added.

Nothing is sent while nothing has changed. Whether a live object is as wanted is seen here, without a request: its
annotation holds the hash of the manifest that was last applied, every field of the manifest has the value wanted, and
where all fields are ours (`additions.GUARDED`) there are no others.
What is otherwise although it was applied is others' doing: told, and put back ever more rarely (`brake.py`). They may
have written our annotation of before over that, or taken the object away: so what was applied is remembered, too.
Where the API server writes a value in its own way (`0.5` CPU as `500m`) that comparison fails: then the manifest is
applied once, and the API server says by the resource version whether anything was different.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from chatoperator.kube.additions import additions
from chatoperator.kube.brake import Brake
from chatoperator.kube.cache import APPLIED, Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import Conflict, Foreign, KubeError, NotFound
from chatoperator.kube.kinds import (
    CHILDREN,
    CONTROLLER_REVISION,
    JOB,
    POD,
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
from chatoperator.kube.whose import TAKEN, is_of_before, refuse_foreign
from chatoperator.manifests.names import LABEL_CLUSTER, LABEL_REVISION

log = logging.getLogger(__name__)

HASH_CHARS = 16
KEPT_BY_OTHERS = (JOB, CONTROLLER_REVISION)
"""Kinds whose objects come and go by rules of their own: not removed here."""

COLLECTED_S = 20.0
"""What is left of a cluster that was deleted is gone in seconds, but for what somebody's finalizer keeps."""

Id = tuple[Kind, str]
"""Kind and name, within the namespace of the cluster."""

_NEVER = (-1, "")
"""A version and a digest that nothing has."""


class Outcome(msgspec.Struct):
    """What a round of `ensure` has done. `put_back`: what somebody had changed or deleted, and which of the two.
    `failed`: in the order of trying."""

    put_back: list[str] = []
    removed: list[str] = []
    made: int = 0
    failed: list[KubeError] = []


class Wanted(msgspec.Struct, frozen=True):
    """A manifest and its hash. `marked`: with the annotation of that, as it is applied."""

    manifest: Object
    digest: str
    marked: Object

    @property
    def id(self) -> Id:
        return kind_of(self.manifest), name_of(self.manifest)

    @property
    def content(self) -> Object:
        """As lists have it: they leave out of their items what kind they are."""
        return {key: value for key, value in self.marked.items() if key not in ("apiVersion", "kind")}


def prepare(manifests: Iterable[Object]) -> list[Wanted]:
    """Hashed once, and not at each look."""
    return [_wanted(manifest) for manifest in manifests]


class Children:
    """Of one cluster. `uid`: of its resource."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        refusals: Refusals,
        uid: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._cache, self._refusals = client, cache, refusals
        self._uid, self._now = uid, now
        self._settled: dict[Id, tuple[int, str]] = {}
        """The resource version at which an object was found to be as wanted, and the digest of what was."""
        self._idle: dict[Id, Object] = {}
        """What was once to be taken away and stayed: the API server sets it itself."""
        self._leaving: dict[Id, float] = {}
        """What is of a cluster of before and is waited for, since when."""
        self._brake = Brake()

    async def ensure(self, wanted: Sequence[Wanted]) -> Outcome:
        """What fails holds up nothing else. The API server not answering is tried once and not for each object."""
        outcome = Outcome()
        # What is not wanted any more, as that of a pod that is gone, is not remembered.
        ids = {one.id for one in wanted}
        self._settled = {id_: settled for id_, settled in self._settled.items() if id_ in ids}
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
        await self._remove_left(namespace, cluster, outcome)
        keep = {one.id for one in wanted}
        owners = {uid for one in wanted for uid in owner_uids(one.manifest)}
        for kind in CHILDREN:
            if kind in KEPT_BY_OTHERS:
                continue
            for live in self._cache[kind].of(namespace, cluster):
                is_ours = bool(owners & owner_uids(live)) and LABEL_REVISION not in labels_of(live)
                if not is_ours or (kind, name_of(live)) in keep or is_going(live):
                    continue
                if await self._remove(kind, live, outcome):
                    outcome.removed.append(f"{kind.name} {name_of(live)}")
        return outcome

    async def _remove_left(self, namespace: str, cluster: str, outcome: Outcome) -> None:
        """What is of a cluster of before. Kubernetes collects it, but not if its collector's watch broke when the one
        was deleted and the other made: then it has heard of a change. Secrets the operator may not delete."""
        for kind in (POD, *CHILDREN):
            for live in self._cache[kind].of(namespace, cluster):
                if is_of_before(live, cluster, self._uid) and not is_going(live):
                    await self._remove(kind, live, outcome)

    async def _remove(self, kind: Kind, live: Object, outcome: Outcome) -> bool:
        try:
            with self._refusals(("delete", kind, name_of(live))):
                await remove(self._client, self._cache, kind, live)
        except KubeError as error:
            outcome.failed.append(error)
            return False
        return True

    async def _ensure(self, wanted: Wanted, outcome: Outcome) -> None:
        (kind, name), manifest = wanted.id, wanted.manifest
        store = self._cache[kind]
        live = store.get(namespace_of(manifest), name)
        if self._is_leaving(live, wanted):
            return
        if self._was_applied(live, wanted):
            if live is not None and self._is_as_wanted(live, wanted):
                self._settle(live, wanted)
                return
            if self._brake.holds(wanted.id):
                return
        with self._refusals(("apply", *wanted.id), wanted.digest):
            if live is None:
                live = await out_of_sight(self._client, manifest)
                if self._is_leaving(live, wanted):
                    return
            else:
                refuse_foreign(live, manifest)
            was_applied = self._was_applied(live, wanted)
            if live is not None and was_applied and covers(live, wanted.content):
                applied = live
            else:
                applied = await self._client.apply(wanted.marked)
            now = await self._without_additions(applied, wanted)
        store.put(now)
        self._settle(now, wanted)
        before = live if was_applied else applied
        if live is None:
            outcome.made += 1
            if was_applied:
                self._note(outcome, wanted, "deleted")
        elif before is not None and version_of(now) != version_of(before):
            self._note(outcome, wanted, "changed")

    def _is_leaving(self, live: Object | None, wanted: Wanted) -> bool:
        """It is of a cluster of before, and will be gone in a moment. Raises Foreign when it was not in time."""
        cluster = labels_of(wanted.manifest)[LABEL_CLUSTER]
        if live is None or not is_of_before(live, cluster, self._uid):
            self._leaving.pop(wanted.id, None)
            return False
        since = self._leaving.setdefault(wanted.id, self._now())
        if self._now() - since > COLLECTED_S:
            what = f"{wanted.id[0].name} {wanted.id[1]}"
            raise Foreign(f"{what} is left of a ChatCluster {cluster} that was deleted", TAKEN)
        return True

    def _note(self, outcome: Outcome, wanted: Wanted, what: str) -> None:
        """Somebody had done that to it."""
        kind, name = wanted.id
        outcome.put_back.append(f"{kind.name} {name} had been {what}")
        self._brake.done(wanted.id)

    def _settle(self, live: Object, wanted: Wanted) -> None:
        self._settled[wanted.id] = version_of(live), wanted.digest

    def _was_applied(self, live: Object | None, wanted: Wanted) -> bool:
        """What is wanted now was applied before, by this operator or by another one: its annotation tells."""
        is_marked = live is not None and annotations_of(live).get(APPLIED) == wanted.digest
        _, digest = self._settled.get(wanted.id, _NEVER)
        return is_marked or digest == wanted.digest

    def _is_as_wanted(self, live: Object, wanted: Wanted) -> bool:
        version, _ = self._settled.get(wanted.id, _NEVER)
        if version == version_of(live):
            return True
        return covers(live, wanted.content) and not self._additions(live, wanted)

    def _additions(self, live: Object, wanted: Wanted) -> Object:
        found = additions(wanted.id[0], live, wanted.manifest)
        return {} if found == self._idle.get(wanted.id) else found

    async def _without_additions(self, live: Object, wanted: Wanted) -> Object:
        """As it is afterwards."""
        found = self._additions(live, wanted)
        if not found:
            return live
        kind, name = wanted.id
        # Of that object, whatever else happens to it meanwhile: what is not named stays.
        body = {**found, "metadata": {"uid": uid_of(live)}}
        now = await self._client.patch(kind, namespace_of(wanted.manifest), name, body)
        left = additions(kind, now, wanted.manifest)
        if left:
            self._idle[wanted.id] = left
        return now


async def out_of_sight(client: KubeClient, manifest: Object) -> Object | None:
    """What is there and has not our label, by which objects are watched: somebody may have taken it away. Raises
    Foreign when it is not the cluster's."""
    try:
        found = await client.get(kind_of(manifest), namespace_of(manifest), name_of(manifest))
    except NotFound:
        return None
    refuse_foreign(found, manifest)
    return found


async def create_once(client: KubeClient, cache: Cache, manifest: Object) -> bool:
    """Makes an object that never changes; one that is there is left as it is. Whether it was made. Raises KubeError,
    Foreign when what is there is not the cluster's."""
    store = cache[kind_of(manifest)]
    if store.get(namespace_of(manifest), name_of(manifest)) is not None:
        return False
    try:
        store.put(await client.create(manifest))
    except Conflict:
        await out_of_sight(client, manifest)
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
    # Without that time it is the object as it was, and gone: a watch may have told so before the answer came.
    if "metadata" in left and is_going(left):
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


def _wanted(manifest: Object) -> Wanted:
    digest = digest_of(manifest)
    annotations = {**annotations_of(manifest), APPLIED: digest}
    marked = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
    return Wanted(manifest, digest, marked)
