"""What a cluster says of itself: by example, and that it is calm."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, make_spec

from chatoperator.autoscale import Decision, LimitedBy, Scaling, ScalingMemory
from chatoperator.conditions import conditions, phase_of, rfc3339
from chatoperator.facts import Facts, Finding, Replicas
from chatoperator.model import DeliveryView, Failures, Observed, PodKind, PodView, RegistryView
from chatoperator.reasons import Reason
from chatoperator.resource_status import Condition, ConditionType, Phase, Truth
from chatoperator.revision import revision_of
from chatoperator.rollout import RolloutMemory, Undone
from chatoperator.round import think
from chatoperator.spec import API_VERSION, KIND, ChatCluster, Metadata, MongoDb, Redis, Spec
from chatoperator.status import resource_status

SPEC = make_spec(2)
REVISION = revision_of(SPEC, PodKind.CHAT)
NOW = 1_800_000_000.0
STEADY = Decision(2, "spec.chatPods.replicas says so", LimitedBy.NOTHING, ScalingMemory(2))
WELL = DeliveryView(healthy=True, since=NOW - 99, p50_ms=2, p99_ms=9, checked_at=NOW)


def cluster_of(spec: Spec = SPEC) -> ChatCluster:
    return ChatCluster(api_version=API_VERSION, kind=KIND, metadata=Metadata(name="talk"), spec=spec)


def pod(name: str, **fields: object) -> PodView:
    defaults: dict[str, object] = {
        "started_at": NOW - 100,
        "ready": True,
        "ever_ready": True,
        "connections": 5,
    }
    return PodView(name=name, kind=PodKind.CHAT, **{"revision": REVISION, **defaults, **fields})  # type: ignore[arg-type]


def facts(*pods: PodView, before: list[Condition] | None = None, **fields: object) -> Facts:
    seen = {name: fields.pop(name) for name in tuple(fields) if name in Observed.__struct_fields__}
    observed = Observed(
        **{"pods": pods or (pod("a"), pod("b")), "registry": RegistryView(), "delivery": WELL, **seen}  # type: ignore[arg-type]
    )
    defaults: dict[str, object] = {
        "generation": 7,
        "decision": STEADY,
        "api": Replicas(1, 1, 1),
        "worker": Replicas(1, 1, 1),
        "storage": Finding(Reason.SCHEMA_READY),
    }
    return Facts(observed=observed, before=tuple(before or ()), **{**defaults, **fields})  # type: ignore[arg-type]


def said(known: Facts, kind: ConditionType, spec: Spec = SPEC, now: float = NOW) -> Condition:
    return next(one for one in conditions(cluster_of(spec), known, now) if one.type is kind)


def phase(known: Facts, spec: Spec = SPEC) -> Phase:
    return phase_of(cluster_of(spec), known, conditions(cluster_of(spec), known, NOW), NOW)


def test_all_well() -> None:
    found = conditions(cluster_of(), facts(), NOW)
    assert {one.type: (one.status, one.reason) for one in found} == {
        "Available": ("True", "EnoughReadyPods"),
        "Progressing": ("False", "AsWanted"),
        "Degraded": ("False", "AllWell"),
        "StorageReady": ("True", "SchemaReady"),
        "RegistryReady": ("True", "RegistryReachable"),
        "DeliveryHealthy": ("True", "Delivering"),
        "Paused": ("False", "NotPaused"),
    }
    assert {one.observed_generation for one in found} == {7}
    assert {one.last_transition_time for one in found} == {rfc3339(NOW)} == {"2027-01-15T08:00:00Z"}
    assert phase(facts()) is Phase.RUNNING


def test_the_time_of_a_condition_changes_with_its_status_only() -> None:
    first = conditions(cluster_of(), facts(), NOW)
    later = conditions(
        cluster_of(), facts(pod("a"), pod("b", draining_since=NOW, drain_intent=True), before=first), NOW + 60
    )
    at = {one.type: one.last_transition_time for one in later}
    assert at.pop(ConditionType.PROGRESSING) == rfc3339(NOW + 60)
    assert set(at.values()) == {rfc3339(NOW)}


def test_the_message_says_what_is_so_and_the_next_step() -> None:
    missing = Finding(Reason.SECRET_MISSING, "Secret talk-db has no key url")
    found = said(facts(storage=missing, problems=(missing,)), ConditionType.STORAGE_READY)
    assert found.status is Truth.FALSE
    assert found.message == (
        "A Secret, or a key of it, is not there: Secret talk-db has no key url. "
        "Make the Secret that the message names, in the cluster's namespace."
    )
    degraded = said(facts(storage=missing, problems=(missing,)), ConditionType.DEGRADED)
    assert degraded.message == found.message, "and once"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"problems": (Finding(Reason.QUOTA_EXCEEDED, "pods: 5 of 5"),)}, Reason.QUOTA_EXCEEDED),
        ({"storage": Finding(Reason.STORE_UNREACHABLE)}, Reason.STORE_UNREACHABLE),
        ({"registry": None, "registry_since": NOW - 9}, Reason.REGISTRY_UNREACHABLE),
        ({"delivery": DeliveryView(healthy=False, since=NOW - 9)}, Reason.NOT_DELIVERING),
        (
            {"rollout": RolloutMemory(undone=Undone("x", NOW, "b was not ready within 60 s"))},
            Reason.ROLLOUT_UNDONE,
        ),
        ({"failures": {(PodKind.CHAT, REVISION): Failures(2, NOW - 1)}}, Reason.PODS_CRASH),
        ({"pods": (pod("a"), pod("b", node_lost=True))}, Reason.NODE_LOST),
        (
            {"pods": (pod("a"), pod("b", scheduled=False, ready=False, ever_ready=False))},
            Reason.PODS_UNSCHEDULABLE,
        ),
        ({"pods": (pod("a"), pod("b", ready=False, ever_ready=False))}, Reason.PODS_NOT_READY),
        ({"pods": (pod("a"), pod("b", ready=False, unready_since=NOW - 10))}, Reason.PODS_NOT_READY),
        ({"decision": msgspec.structs.replace(STEADY, limited_by=LimitedBy.MAX)}, Reason.TOO_FEW_FOR_LOAD),
    ],
)
def test_what_is_wrong_is_told(fields: dict[str, object], reason: Reason) -> None:
    pods = fields.pop("pods", ())
    registry_away = "registry_since" in fields
    known = facts(*pods, **{key: value for key, value in fields.items() if key != "registry"})  # type: ignore[misc]
    if registry_away:
        known = msgspec.structs.replace(
            known, observed=msgspec.structs.replace(known.observed, registry=None)
        )
    degraded = said(known, ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == (Truth.TRUE, reason)
    assert phase(known) is Phase.DEGRADED


def test_several_troubles_are_all_told_the_worst_first() -> None:
    known = facts(problems=(Finding(Reason.IMAGE_UNAVAILABLE, "b: not found"), Finding(Reason.FORBIDDEN)))
    degraded = said(known, ConditionType.DEGRADED)
    assert degraded.reason == Reason.IMAGE_UNAVAILABLE
    assert "b: not found" in degraded.message
    assert Reason.FORBIDDEN.meaning in degraded.message


def test_one_slow_look_turns_nothing() -> None:
    before = conditions(cluster_of(), facts(), NOW - 100)
    blinking = pod("b", ready=False, unready_since=NOW - 1)
    disturbed = facts(
        blinking,
        pod("a", ready=False, unready_since=NOW - 2),
        before=before,
        registry_since=NOW - 2,
        delivery=DeliveryView(healthy=False, since=NOW - 2),
        storage=Finding(Reason.STORE_UNREACHABLE, since=NOW - 2),
    )
    away = msgspec.structs.replace(
        disturbed, observed=msgspec.structs.replace(disturbed.observed, registry=None)
    )
    assert conditions(cluster_of(), away, NOW) == before
    later = {one.type: one.status for one in conditions(cluster_of(), away, NOW + 5)}
    assert later[ConditionType.REGISTRY_READY] == later[ConditionType.AVAILABLE] == "False"
    assert later[ConditionType.DELIVERY_HEALTHY] == later[ConditionType.STORAGE_READY] == "False"


def test_what_never_was_well_is_not_held() -> None:
    away = msgspec.structs.replace(facts(), observed=Observed(registry_since=NOW - 1))
    before = conditions(cluster_of(), msgspec.structs.replace(away, generation=1), NOW - 50)
    found = said(msgspec.structs.replace(away, before=tuple(before)), ConditionType.REGISTRY_READY)
    assert found.status is Truth.FALSE
    before = conditions(cluster_of(), facts(storage=Finding(Reason.SCHEMA_FAILED)), NOW - 50)
    other = Finding(Reason.STORE_UNREACHABLE, since=NOW - 1)
    assert said(facts(storage=other, before=before), ConditionType.STORAGE_READY).reason == other.reason


def test_tables_that_are_renewed_can_be_used_meanwhile() -> None:
    pending = Finding(Reason.SCHEMA_PENDING)
    before = conditions(cluster_of(), facts(), NOW - 50)
    assert said(facts(storage=pending), ConditionType.STORAGE_READY).status is Truth.FALSE
    assert said(facts(storage=pending, before=before), ConditionType.STORAGE_READY).status is Truth.TRUE


def test_what_redis_says_of_us_is_told_before_that_it_does_not_answer() -> None:
    refused = Finding(Reason.REGISTRY_REFUSES, "Redis says: WRONGPASS")
    away = msgspec.structs.replace(facts(), observed=Observed(), registry=refused)
    assert said(away, ConditionType.REGISTRY_READY).reason == Reason.REGISTRY_REFUSES
    back = msgspec.structs.replace(facts(), registry=refused)
    assert said(back, ConditionType.REGISTRY_READY).status is Truth.TRUE


def test_all_api_pods_have_to_be_ready_at_first() -> None:
    fresh = {"started_at": NOW - 3}
    few = facts(pod("a", **fresh), pod("b", **fresh), api=Replicas(2, 1, 2))
    assert said(few, ConditionType.AVAILABLE).reason == Reason.TOO_FEW_READY_PODS
    assert said(few, ConditionType.AVAILABLE).status is Truth.FALSE


def test_what_may_be_chance_or_is_over_is_not_wrong() -> None:
    kind = ConditionType.DEGRADED
    key = (PodKind.CHAT, REVISION)
    assert said(facts(failures={key: Failures(1, NOW)}), kind).status is Truth.FALSE
    assert said(facts(failures={key: Failures(9, NOW - 120)}), kind).status is Truth.FALSE
    assert said(facts(failures={key: Failures(9, NOW - 119)}), kind).reason == Reason.PODS_CRASH
    late = {"ready": False, "unready_since": NOW - 99}
    for excused in ({"drain_intent": True}, {"stopping": True}, {"unready_since": NOW - 9}):
        assert said(facts(pod("a"), pod("b"), pod("c", **{**late, **excused})), kind).status is Truth.FALSE
    young = pod("c", ready=False, ever_ready=False, started_at=NOW - 24)
    assert said(facts(pod("a"), pod("b"), young), kind).status is Truth.FALSE
    waiting = pod("c", ready=False, ever_ready=False, scheduled=False, started_at=NOW - 9)
    assert said(facts(pod("a"), pod("b"), waiting), kind).status is Truth.FALSE


def test_a_lost_node_is_told_until_its_pods_are_replaced_and_gone() -> None:
    kind = ConditionType.DEGRADED
    gone = pod("c", node_lost=True, stopping=True)
    assert said(facts(pod("a"), pod("b"), gone), kind).status is Truth.FALSE
    assert said(facts(pod("a"), gone), kind).reason == Reason.NODE_LOST
    assert said(facts(pod("a"), pod("b"), pod("c", node_lost=True)), kind).reason == Reason.NODE_LOST


def test_a_silent_prober_is_unknown_after_a_while() -> None:
    before = conditions(cluster_of(), facts(), NOW - 100)
    silent = facts(before=before, delivery=DeliveryView(healthy=None, since=NOW, checked_at=NOW))
    assert said(silent, ConditionType.DELIVERY_HEALTHY, now=NOW + 29).status is Truth.TRUE
    found = said(silent, ConditionType.DELIVERY_HEALTHY, now=NOW + 31)
    assert (found.status, found.reason) == (Truth.UNKNOWN, Reason.PROBE_SILENT)
    nobody = said(facts(delivery=None), ConditionType.DELIVERY_HEALTHY)
    assert (nobody.status, nobody.reason) == (Truth.UNKNOWN, Reason.NOT_MEASURED)


def test_available_begins_with_all_pods_and_ends_with_the_last() -> None:
    kind = ConditionType.AVAILABLE
    fresh = {"started_at": NOW - 3}
    starting = pod("b", ready=False, ever_ready=False, **fresh)
    assert said(facts(starting), kind).reason == Reason.NO_READY_PODS
    half = said(facts(pod("a", **fresh), starting), kind)
    assert (half.status, half.reason) == (Truth.FALSE, Reason.TOO_FEW_READY_PODS)
    assert said(facts(pod("a"), starting), kind).status is Truth.TRUE, "the others may never come"
    before = conditions(cluster_of(), facts(), NOW)
    lonely = said(facts(pod("a", **fresh), starting, before=before), kind)
    assert (lonely.status, lonely.reason) == (Truth.TRUE, Reason.TOO_FEW_READY_PODS)
    assert said(facts(before=before, api=Replicas(1, 0, 1)), kind).reason == Reason.NO_READY_PODS


def test_what_goes_on_is_told_with_its_reason() -> None:
    kind, before = ConditionType.PROGRESSING, conditions(cluster_of(), facts(), NOW)
    grown = Scaling(NOW, 1, 2, "99 connections want 2 pods")
    starting = pod("b", ready=False, ever_ready=False, started_at=NOW)

    def reason_of(*pods: PodView, spec: Spec = SPEC, **fields: object) -> str:
        return said(facts(*pods, before=before, **fields), kind, spec).reason

    growing = msgspec.structs.replace(STEADY, memory=ScalingMemory(2, (), grown))
    up = said(facts(pod("a"), starting, before=before, decision=growing), kind)
    assert up.reason == Reason.SCALING_UP
    assert "1 of 2 are ready; from 1 to 2, as 99 connections want 2 pods" in up.message
    assert reason_of(pod("a"), starting) == Reason.REPLACING
    leaving = pod("c", drain_intent=True, draining_since=NOW)
    assert reason_of(pod("a"), pod("b"), leaving) == Reason.SCALING_DOWN
    assert reason_of(pod("a"), pod("b", condemned=True)) == Reason.REPLACING
    assert reason_of(pod("a"), pod("b", revision="old")) == Reason.ROLLING_OUT
    broken = DeliveryView(healthy=False, since=NOW - 60)
    assert reason_of(pod("a"), pod("b", revision="old"), delivery=broken) == Reason.ROLLOUT_WAITS
    assert reason_of(api=Replicas(2, 2, 1)) == Reason.ROLLING_OUT
    assert reason_of(shed_at=NOW - 1) == Reason.REBALANCING
    assert reason_of(spec=msgspec.structs.replace(SPEC, pause=True)) == Reason.PAUSED
    first = said(facts(starting), kind)
    assert (first.status, first.reason) == (Truth.TRUE, Reason.STARTING)


def test_a_revision_that_waits_for_its_tables_is_told() -> None:
    old = {"revision": "old", "started_at": NOW - 100}
    held = {"held": frozenset({REVISION}), "last_good": "old", "storage": Finding(Reason.SCHEMA_PENDING)}
    before = conditions(cluster_of(), facts(), NOW - 50)
    found = said(facts(pod("a", **old), pod("b", **old), before=before, **held), ConditionType.PROGRESSING)
    assert (found.status, found.reason) == (Truth.TRUE, Reason.SCHEMA_PENDING)
    assert f"revision {REVISION} waits for them" in found.message
    # With nothing to go on with there is nothing that waits.
    first = said(facts(before=before, held=frozenset({REVISION})), ConditionType.PROGRESSING)
    assert first.reason == Reason.AS_WANTED


def test_a_given_up_revision_is_told_until_the_spec_changes() -> None:
    world, good, bad = World(kubernetes=True), make_spec(2), make_spec(2, version="2", ready_deadline_s=6)
    world.settle(good, 45)
    world.stuck_revisions.add(revision_of(bad, PodKind.CHAT))
    world.settle(bad, 40)
    thought = think(bad, world.observed(), world.memory, float(world.now))
    known = Facts(
        generation=2,
        observed=thought.observed,
        decision=thought.decision,
        rollout=thought.memory.rollout,
        api=Replicas(1, 1, 1),
        storage=Finding(Reason.SCHEMA_READY),
    )
    progressing = said(known, ConditionType.PROGRESSING, bad)
    assert (progressing.status, progressing.reason) == (Truth.FALSE, Reason.ROLLOUT_UNDONE)
    assert "3 were not ready within 6 s" in said(known, ConditionType.DEGRADED, bad).message
    assert said(known, ConditionType.AVAILABLE, bad).status is Truth.TRUE
    status = resource_status(cluster_of(bad), known, float(world.now), selector="a=b", url="https://x")
    assert status.undone is not None
    current, last_good = status.revisions
    assert (current.current, current.failed, current.pods) == (True, True, 0)
    assert (last_good.revision, last_good.pods, last_good.failed) == (
        revision_of(good, PodKind.CHAT),
        2,
        False,
    )


def test_what_is_for_development_is_told() -> None:
    spec = msgspec.structs.replace(SPEC, mongodb=MongoDb(development=True), redis=Redis(development=True))
    storage, registry = (
        said(facts(), kind, spec) for kind in (ConditionType.STORAGE_READY, ConditionType.REGISTRY_READY)
    )
    assert (storage.status, storage.reason) == (Truth.TRUE, Reason.DEVELOPMENT_STORE)
    assert (registry.status, registry.reason) == (Truth.TRUE, Reason.DEVELOPMENT_REDIS)
    assert "not for production" in storage.message


def test_phases() -> None:
    starting = pod("b", ready=False, ever_ready=False, started_at=NOW)
    empty = msgspec.structs.replace(
        facts(), observed=Observed(registry=RegistryView()), storage=Finding(Reason.NOT_LOOKED_AT)
    )
    assert phase(empty) is Phase.PENDING
    assert phase(facts(starting)) is Phase.STARTING
    missing = Finding(Reason.SECRET_MISSING, "Secret talk-db is not there")
    assert phase(msgspec.structs.replace(empty, problems=(missing,))) is Phase.FAILED
    assert phase(facts(pod("a"), pod("b", revision="old"))) is Phase.PROGRESSING
    assert phase(facts(), msgspec.structs.replace(SPEC, pause=True)) is Phase.PAUSED


def test_a_new_cluster_has_not_failed_because_its_redis_is_not_there_yet() -> None:
    waits = msgspec.structs.replace(
        facts(), observed=Observed(registry_since=NOW - 9), storage=Finding(Reason.SCHEMA_PENDING)
    )
    starting = pod("b", ready=False, ever_ready=False, started_at=NOW)
    begins = msgspec.structs.replace(waits, observed=Observed(pods=(starting,), registry_since=NOW - 9))
    for known, so_far in ((waits, Phase.PENDING), (begins, Phase.STARTING)):
        young = msgspec.structs.replace(known, created_at=NOW - 59)
        assert said(young, ConditionType.DEGRADED).status is Truth.TRUE, "and the condition says why"
        assert phase(young) is so_far
        assert phase(msgspec.structs.replace(known, created_at=NOW - 60)) is Phase.FAILED
    # One that had pods which worked is another matter, however young it is.
    missing = Finding(Reason.SECRET_MISSING)
    assert phase(facts(pod("a"), problems=(missing,), created_at=NOW - 9)) is Phase.DEGRADED


def test_the_status_counts() -> None:
    going = pod("c", drain_intent=True, draining_since=NOW, connections=1)
    known = facts(pod("a"), pod("b", connections=None), going)
    status = resource_status(cluster_of(), known, NOW, selector="a=b", url="https://x")
    counts = status.chat_pods
    assert (counts.desired, counts.replicas, counts.ready, counts.draining) == (2, 3, 2, 1)
    assert counts.connections is None, "a pod has not told"
    assert status.delivery is not None
    assert (status.delivery.p99_ms, status.observed_generation) == (9, 7)
    told = resource_status(cluster_of(), facts(), NOW, selector="", url="").chat_pods.connections
    assert told == 10


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 1), st.integers(0, 4)), max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_healthy_cluster_with_slow_answers_says_one_thing_all_the_time(
    slow: list[tuple[int, int, int]],
) -> None:
    """`slow`: (tick, pod, seconds) in which that pod does not answer the operator."""
    world = World(kubernetes=True)
    world.settle(SPEC, 10)
    before: list[Condition] = []
    for tick in range(31):
        for at, number, seconds in slow:
            pod = world.kind(PodKind.CHAT)[number]
            if at == tick and seconds and pod.blinks_until <= world.now:
                pod.blinks_until, pod.unready_since = world.now + seconds, world.now
        thought = think(SPEC, world.observed(), world.memory, float(world.now), (PodKind.CHAT,))
        assert thought.actions == ()
        known = Facts(
            generation=1,
            observed=thought.observed,
            decision=thought.decision,
            rollout=thought.memory.rollout,
            api=Replicas(1, 1, 1),
            storage=Finding(Reason.SCHEMA_READY),
            before=tuple(before),
        )
        found = conditions(cluster_of(), known, float(world.now))
        assert before in ([], found)
        before = found
        world.tick()
