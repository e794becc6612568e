"""Tends one ChatCluster: looks, thinks, acts, and tells how it is. One task, so nothing here meets itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

import msgspec

from chatkernel.errors import ChatError
from chatoperator.acting import Failure
from chatoperator.again import Again
from chatoperator.conditions import blind
from chatoperator.facts import Facts, Finding
from chatoperator.kube.errors import Forbidden, KubeError, NotLeading
from chatoperator.kube.findings import (
    problem_of_deployment,
    problem_of_error,
    problems_of_pods,
    replicas_of,
)
from chatoperator.kube.kinds import (
    CHAT_CLUSTER,
    DEPLOYMENT,
    POD,
    Object,
    annotations_of,
    name_of,
    uid_of,
    version_of,
)
from chatoperator.kube.memory import read_memory
from chatoperator.kube.parts import Parts
from chatoperator.kube.podview import is_alive, is_stopping, unix_s
from chatoperator.kube.refusals import Refusals
from chatoperator.kube.shared import Shared
from chatoperator.kube.statuswriter import StatusWriter
from chatoperator.kube.surroundings import Tended, invalid_source
from chatoperator.kube.whose import is_of_before
from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, resolved
from chatoperator.manifests.settings import api_url, live_hash
from chatoperator.manifests.sources import SourceError
from chatoperator.model import Action, Observed, PodKind, RegistryView, Start
from chatoperator.reasons import Reason
from chatoperator.resource_object import ResourceError, cluster_of
from chatoperator.revision import revision_of
from chatoperator.rollout import RolloutMemory
from chatoperator.round import Memory, Round, think
from chatoperator.spec import ChatCluster
from chatoperator.status import resource_status

log = logging.getLogger(__name__)

BUSY_S = 1.0
REST_S = 5.0
GAP_S = 0.1
"""Changes come in showers: one look sees them all."""
BLIND_S = 5.0
"""A right that is missing for less may be one that is just being given."""
TIDY_S = 60.0
"""Between two looks for what nobody needs any more."""
FOLLOWING = (names.CHAT, names.API, names.WORKER, names.PROBE)
"""Components whose pods follow the live settings."""
EXPECTED = (KubeError, ChatError, TimeoutError, SourceError)
"""What may keep something from being done, and is no fault of ours."""
KINDS = (PodKind.CHAT,)
"""Of the others Deployments take care."""


class ClusterTask:
    """Implements supervisor.Tended. `facts` is what the last round has found."""

    def __init__(self, shared: Shared, key: tuple[str, str], uid: str) -> None:
        self._shared = shared
        self._namespace, self._name = key
        self.uid = uid
        self._wake = asyncio.Event()
        self._again = Again()
        self._read: tuple[int, ChatCluster | ResourceError] = (-1, ResourceError())
        self._memory: Memory | None = None
        self._parts: Parts | None = None
        self._status = StatusWriter(shared.client, shared.cache)
        self._refusals = Refusals()
        self._blind_since: float | None = None
        self._tidied_at = 0.0
        self.facts: Facts | None = None

    # -- what the supervisor asks

    def wake(self) -> None:
        self._wake.set()

    def asks_for(self, secret: str) -> bool:
        return self._parts is not None and secret in self._parts.secrets()

    async def run(self) -> None:
        counts = self._shared.counts
        try:
            while True:
                self._wake.clear()
                began, outcome = time.monotonic(), "failed"
                with self._again(f"a round of {self._namespace}/{self._name}"):
                    outcome = await self._round_if_current()
                counts.rounds[outcome] += 1
                counts.round_s += time.monotonic() - began
                await self._rest(REST_S if outcome == "rest" else BUSY_S)
        finally:
            if self._parts is not None:
                await self._parts.aclose()

    async def _rest(self, for_s: float) -> None:
        try:
            async with asyncio.timeout(for_s):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(GAP_S)

    # -- a round

    async def _round_if_current(self) -> str:
        """Nothing is done, or undone, because of what may be so no longer."""
        shared = self._shared
        if not shared.may_act():
            return "skipped"
        if not shared.cache.is_current(self._namespace):
            await self._tell_blind()
            return "skipped"
        self._blind_since = None
        found = shared.cache[CHAT_CLUSTER].get(self._namespace, self._name)
        if found is None or is_stopping(found) or uid_of(found) != self.uid:
            return "rest"
        try:
            return "busy" if await self._round(found) else "rest"
        except NotLeading:
            return "skipped"

    async def _tell_blind(self) -> None:
        """Nothing is done while not all is seen. That it is a right of the operator that is missing, a person has to
        be told all the same."""
        problem, now = self._shared.cache.problem(self._namespace), time.time()
        if not isinstance(problem, Forbidden):
            self._blind_since = None
            return
        self._blind_since = now if self._blind_since is None else self._blind_since
        found = self._shared.cache[CHAT_CLUSTER].get(self._namespace, self._name)
        if now - self._blind_since < BLIND_S or found is None or is_stopping(found):
            return
        before = self._status.read(found)
        after = blind(before, Finding(Reason.FORBIDDEN, str(problem)), _generation(found), now)
        with self._noting("writing the status"):
            await self._status.write(found, after)

    async def _round(self, found: Object) -> bool:
        """Whether something is under way."""
        refused = self._understand(found)
        parts = self._parts
        if parts is None:
            return False
        if self._memory is None:
            self._memory = read_memory(
                self._status.read(found), parts.revisions.last_good(parts.cluster), time.time()
            )
        tended = await self._tend(parts, self._gone_back(parts, self._memory.rollout))
        if refused is not None:
            tended.problems.insert(0, refused)
        now = time.time()
        registry = await parts.link.observe(now)
        parts.place.entries = parts.link.entries
        observed = self._observe(found, parts, registry, now)
        if not tended.has_tables:
            observed = msgspec.structs.replace(observed, held=_held(parts, observed, self._memory.rollout))
        thought = think(parts.cluster.spec, observed, self._memory, now, KINDS)
        self._memory = thought.memory
        if parts.cluster.spec.chat_pods.autoscaling is not None:
            parts.inputs = msgspec.structs.replace(parts.inputs, chat_pods=thought.decision.replicas)
        actions = [action for action in thought.actions if _may_be_done(action, tended, thought)]
        failures = await parts.acting.apply(parts.cluster, actions, observed)
        tended.problems += await self._see_to_the_rest(parts, thought)
        self._add_problems(parts, tended, failures)
        self.facts = self._gather(found, parts, thought, tended)
        await self._write_status(found, parts, self.facts)
        return bool(actions) or registry is None or _is_unsettled(thought)

    def _understand(self, found: Object) -> Finding | None:
        """Takes over what the resource says now. What is refused changes nothing: what ran before goes on."""
        if self._read[0] != version_of(found):
            self._read = version_of(found), _understood(found)
        read, shared = self._read[1], self._shared
        if isinstance(read, ResourceError):
            return Finding(Reason.INVALID_SPEC, str(read))
        if self._parts is None:
            inputs = Inputs(
                owner_uid=self.uid,
                image=shared.image,
                operator_namespace=shared.operator_namespace,
                development=shared.development,
                chat_pods=max(1, self._status.read(found).chat_pods.desired),
            )
            self._parts = Parts(shared, read, inputs, self._refusals, self.wake)
        parts = self._parts
        image = parts.revisions.image_for(read, shared.image)
        parts.inputs = msgspec.structs.replace(parts.inputs, image=image)
        parts.cluster = resolved(read, parts.inputs)
        return None

    def _gone_back(self, parts: Parts, rollout: RolloutMemory) -> ChatCluster | None:
        """Where the resource's revision was given up: the resource with the image of the last good one. API pods,
        workers and the probe go back with the chat pods."""
        asked_for = revision_of(parts.cluster.spec, PodKind.CHAT)
        if rollout.undone is None or rollout.undone.revision != asked_for or not rollout.last_good:
            return None
        return parts.revisions.gone_back(parts.cluster, rollout.last_good)

    async def _tend(self, parts: Parts, gone_back: ChatCluster | None) -> Tended:
        try:
            tended, parts.inputs = await parts.surroundings.tend(parts.cluster, parts.inputs, gone_back)
        except SourceError as error:
            return Tended(problems=[invalid_source(error)], may_start=False)
        parts.revisions.inputs = parts.inputs
        away_since = parts.store.away_since()
        if away_since is not None and tended.storage.reason in (
            Reason.SCHEMA_READY,
            Reason.DEVELOPMENT_STORE,
        ):
            tended.storage = Finding(Reason.STORE_UNREACHABLE, since=away_since)
        return tended

    def _observe(self, found: Object, parts: Parts, registry: RegistryView | None, now: float) -> Observed:
        parts.prober.look_at(parts.address_of(names.PROBE))
        parts.store.look_at(parts.address_of(names.WORKER))
        observed = parts.history.look(parts.place.observe(), registry, now)
        parts.place.ask()
        asked = annotations_of(found).get(names.REBALANCE)
        return msgspec.structs.replace(
            observed,
            delivery=parts.prober.view(),
            storage_up=parts.store.away_since() is None,
            rebalance_asked_at=unix_s(asked, now) if asked is not None else None,
        )

    async def _see_to_the_rest(self, parts: Parts, thought: Round) -> list[Finding]:
        """What need not be done at once, and never keeps the status from being written. What hinders it."""
        problems: list[Finding] = []
        if parts.cluster.spec.pause:
            return problems
        with self._noting("keeping names out of the registry", problems):
            for pod in sorted(parts.place.over if thought.observed.registry is not None else ()):
                await parts.link.remove(pod, "", for_good=True)
                parts.place.over.discard(pod)
        with self._noting("telling pods of live settings", problems):
            await self._tell_live(parts)
        with self._noting("keeping the revision", problems):
            await parts.revisions.keep(parts.cluster)
            if thought.memory.rollout.last_good:
                await parts.revisions.mark_good(parts.cluster, thought.memory.rollout.last_good)
        if time.monotonic() - self._tidied_at > TIDY_S:
            with self._noting("tidying up", problems):
                await self._tidy(parts, thought)
            self._tidied_at = time.monotonic()
        return problems

    @contextlib.contextmanager
    def _noting(self, what: str, problems: list[Finding] | None = None) -> Iterator[None]:
        with self._again(what, EXPECTED):
            try:
                with self._refusals(what):
                    yield
            except KubeError as error:
                problem = problem_of_error(error)
                if problem is not None and problems is not None:
                    problems.append(problem)
                raise

    async def _tell_live(self, parts: Parts) -> None:
        """A changed annotation makes the kubelet look at once, instead of within a minute or two."""
        wanted = live_hash(parts.cluster)
        for component in FOLLOWING:
            for pod in parts.pods(component):
                if annotations_of(pod).get(names.LIVE) != wanted and is_alive(pod) and not is_stopping(pod):
                    body: Object = {"metadata": {"annotations": {names.LIVE: wanted}}}
                    changed = await self._shared.client.patch(POD, self._namespace, name_of(pod), body)
                    self._shared.cache[POD].put(changed)

    async def _tidy(self, parts: Parts, thought: Round) -> None:
        await parts.place.clear_away()
        rollout = thought.memory.rollout
        used = {pod.revision for pod in thought.observed.pods} | {rollout.last_good, rollout.wanted}
        used.add(revision_of(parts.cluster.spec, PodKind.CHAT))
        await parts.revisions.forget_others(parts.cluster, used)

    # -- what is told

    def _add_problems(self, parts: Parts, tended: Tended, failures: Sequence[Failure]) -> None:
        tended.problems += problems_of_pods(parts.pods())
        of_deployments = [problem_of_deployment(one) for one in self._deployments()]
        of_errors = [problem_of_error(error) for error in failures if isinstance(error, KubeError)]
        tended.problems += [problem for problem in [*of_errors, *of_deployments] if problem is not None]

    def _gather(self, found: Object, parts: Parts, thought: Round, tended: Tended) -> Facts:
        spec = parts.cluster.spec
        deployments = {name_of(one): one for one in self._deployments()}
        api, worker = (
            deployments.get(names.of(self._name, component)) for component in (names.API, names.WORKER)
        )
        return Facts(
            generation=_generation(found),
            observed=thought.observed,
            decision=thought.decision,
            rollout=thought.memory.rollout,
            api=replicas_of(api, spec.api_pods.replicas),
            worker=replicas_of(worker, spec.worker.replicas),
            storage=tended.storage,
            registry=tended.registry or parts.link.refusal,
            problems=tuple(tended.problems),
            versions=parts.revisions.releases(parts.cluster),
            before=tuple(self._status.read(found).conditions),
            created_at=unix_s(found["metadata"].get("creationTimestamp"), time.time()),
        )

    async def _write_status(self, found: Object, parts: Parts, facts: Facts) -> None:
        cluster = parts.cluster
        selected = names.selector(self._name, names.CHAT)
        selector = ",".join(f"{label}={value}" for label, value in sorted(selected.items()))
        status = resource_status(cluster, facts, time.time(), selector=selector, url=api_url(cluster))
        with self._noting("writing the status"):
            # The newest: what was written since, by us or by others, is not to be lost.
            newest = self._shared.cache[CHAT_CLUSTER].get(self._namespace, self._name)
            if newest is None or uid_of(newest) != self.uid:
                return  # it was deleted meanwhile, and maybe made anew
            await self._status.write(newest, status)
            parts.telling.conditions(facts.before, status.conditions)

    def _deployments(self) -> list[Object]:
        found = self._shared.cache[DEPLOYMENT].of(self._namespace, self._name)
        return [one for one in found if not is_of_before(one, self._name, self.uid)]


def _may_be_done(action: Action, tended: Tended, thought: Round) -> bool:
    """Not to start what could not run."""
    if not isinstance(action, Start):
        return True
    return tended.may_start and (tended.has_tables or action.revision not in thought.observed.held)


def _held(parts: Parts, observed: Observed, rollout: RolloutMemory) -> frozenset[str]:
    """The resource's revision, while the store's tables are not made. One that runs, or ran well, has its tables."""
    revision = revision_of(parts.cluster.spec, PodKind.CHAT)
    runs = any(pod.revision == revision and pod.ever_ready for pod in observed.pods)
    return frozenset() if runs or revision == rollout.last_good else frozenset({revision})


def _is_unsettled(thought: Round) -> bool:
    """Something is about to happen: what takes seconds is looked at every second."""
    observed = thought.observed
    moving = any(not pod.ready or pod.draining or pod.stopping or pod.condemned for pod in observed.pods)
    return moving or len(observed.pods) != observed.desired or _has_foreign_entry(observed)


def _has_foreign_entry(observed: Observed) -> bool:
    entries = observed.registry.entries if observed.registry is not None else ()
    runs = {pod.name: pod.incarnation for pod in observed.pods}
    return any(runs.get(entry.name) != entry.incarnation for entry in entries)


def _generation(found: Object) -> int:
    return int(found["metadata"].get("generation", 0))


def _understood(found: Object) -> ChatCluster | ResourceError:
    try:
        return cluster_of(found)
    except ResourceError as error:
        return error
