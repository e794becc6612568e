"""Single decisions of the plan, by example."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World, make_spec

from chatoperator.census import rank_victims
from chatoperator.model import (
    Delete,
    Drain,
    EntryView,
    Failures,
    Forget,
    Observed,
    PodKind,
    PodView,
    RegistryView,
    RemoveEntry,
    SetPolicy,
    Shed,
    Start,
    Undrain,
)
from chatoperator.plan import UNREADY_S, backoff_s, plan
from chatoperator.podsettings import live_settings
from chatoperator.revision import revision_of
from chatoperator.routing import ASKED_S
from chatoperator.spec import Auth, IssuerSpec, Rebalance, Rollout, Spec

SPEC = make_spec(2, api=1, worker=1)
REVISION = revision_of(SPEC, PodKind.CHAT)
NOW = 100.0


def chat(name: str, **fields: object) -> PodView:
    defaults: dict[str, object] = {
        "kind": PodKind.CHAT,
        "revision": REVISION,
        "started_at": 0.0,
        "ready": True,
        "ever_ready": True,
        "answered_at": NOW,
        "told_at": NOW,
        "connections": 5,
        "incarnation": name + "/i",
    }
    return PodView(name=name, **{**defaults, **fields})  # type: ignore[arg-type]


def others() -> list[PodView]:
    return [
        chat("api", kind=PodKind.API, revision=revision_of(SPEC, PodKind.API)),
        chat("worker", kind=PodKind.WORKER, revision=revision_of(SPEC, PodKind.WORKER)),
    ]


def seen(*pods: PodView, registry: RegistryView | None = None, **fields: object) -> Observed:
    if registry is None:
        entries = tuple(EntryView(pod.name, pod.incarnation, True) for pod in pods if pod.alive)
        registry = RegistryView(entries, REVISION, frozenset())
    return Observed(pods=(*pods, *others()), registry=registry, **fields)  # type: ignore[arg-type]


def decided(observed: Observed, spec: Spec = SPEC, now: float = NOW) -> list[object]:
    return [action for action in plan(spec, observed, now) if not isinstance(action, SetPolicy)]


def test_all_well_means_nothing_to_do() -> None:
    assert plan(SPEC, seen(chat("a"), chat("b")), NOW) == []


def test_an_empty_place_gets_one_pod_of_each_kind_as_wanted() -> None:
    starts = plan(SPEC, Observed(registry=RegistryView()), NOW)
    assert [action.kind for action in starts if isinstance(action, Start)] == [
        "chat",
        "chat",
        "api",
        "worker",
    ]


def test_a_paused_cluster_is_left_alone() -> None:
    assert plan(msgspec.structs.replace(SPEC, pause=True), Observed(), NOW) == []


def test_a_dead_pod_is_replaced_and_its_entry_removed() -> None:
    dead = chat("a", alive=False, ready=False)
    registry = RegistryView((EntryView("a", "a/i", True), EntryView("b", "b/i", True)), REVISION)
    actions = plan(SPEC, seen(dead, chat("b"), registry=registry), NOW)
    assert actions == [
        SetPolicy(REVISION, frozenset({"a"})),
        RemoveEntry("a", "a/i", "no such pod", for_good=True),
        Forget("a", "its process is gone"),
        Start(PodKind.CHAT, REVISION, "too few pods"),
    ]


def test_forged_entries_and_those_of_another_incarnation_are_removed() -> None:
    entries = (EntryView("a", "zombie", True), EntryView("b", "b/i", True), EntryView("evil", "x", True))
    actions = decided(seen(chat("a"), chat("b"), registry=RegistryView(entries, REVISION)))
    assert [action.pod for action in actions if isinstance(action, RemoveEntry)] == ["a", "evil"]


@pytest.mark.parametrize(("told_at", "removed"), [(None, False), (53.0, False), (53.1, True)])
def test_an_entry_is_foreign_when_the_pod_has_said_so_since(told_at: float | None, *, removed: bool) -> None:
    """Leases that are renewed say nothing of it: whoever forged the entry may renew it."""
    entries = (EntryView("a", "forged", True, 50.0), EntryView("b", "b/i", True))
    registry = RegistryView(entries, REVISION)
    actions = decided(seen(chat("a", told_at=told_at), chat("b"), registry=registry))
    assert actions == ([RemoveEntry("a", "forged", "not this pod's incarnation")] if removed else [])


def test_what_names_no_run_is_written_over_by_its_pod() -> None:
    """To remove it would remove whatever stands there by then."""
    entries = (EntryView("a", "", False, 50.0), EntryView("b", "b/i", True))
    assert decided(seen(chat("a"), chat("b"), registry=RegistryView(entries, REVISION))) == []


def test_a_forged_entry_is_no_lease_of_the_pod_that_it_names() -> None:
    entries = (EntryView("a", "forged", True, NOW), EntryView("b", "b/i", True))
    registry = RegistryView(entries, REVISION)
    silent = chat("a", ready=False, answered_at=NOW - 16)
    actions = decided(seen(silent, chat("b"), registry=registry))
    assert actions == [Delete("a", "does not answer", 0.0), Start(PodKind.CHAT, REVISION, "too few pods")]
    taken = RegistryView((EntryView("a", "a/i", True), EntryView("b", "forged", True, NOW)), REVISION)
    rolling = seen(chat("a", revision="old"), chat("b"), registry=taken)
    assert decided(rolling, make_spec(1)) == [], "the new pod gets nobody, so the old one stays"


def test_scaling_down_drains_the_pod_with_fewest_connections() -> None:
    actions = plan(make_spec(1), seen(chat("a", connections=9), chat("b", connections=3)), NOW)
    assert actions == [SetPolicy(REVISION, frozenset({"b"})), Drain("b", "scaled down")]


def test_unknown_counts_are_busy() -> None:
    actions = decided(seen(chat("a", connections=None), chat("b", connections=9000)), make_spec(1))
    assert actions == [Drain("b", "scaled down")]


def test_a_pod_that_never_was_ready_is_deleted_without_a_drain() -> None:
    actions = decided(seen(chat("a"), chat("b", ready=False, ever_ready=False)), make_spec(1))
    assert [type(action) for action in actions] == [Delete]


def test_a_drained_pod_is_deleted_at_zero_or_at_the_deadline() -> None:
    drained = chat("c", drain_intent=True, drain_told=True, draining_since=NOW - 1, connections=0)
    late = chat("c", drain_intent=True, drain_told=True, draining_since=NOW - 8, connections=7)
    busy = chat("c", drain_intent=True, drain_told=True, draining_since=NOW - 1, connections=None)
    assert decided(seen(chat("a"), chat("b"), drained)) == [Delete("c", "drained", 5.0)]
    assert decided(seen(chat("a"), chat("b"), late)) == [Delete("c", "drain deadline", 5.0)]
    assert decided(seen(chat("a"), chat("b"), busy)) == []


def test_a_pod_that_has_not_heard_of_its_drain_is_told_again() -> None:
    deaf = chat("c", drain_intent=True, draining_since=NOW - 1)
    assert decided(seen(chat("a"), chat("b"), deaf)) == [Drain("c", "has not heard that it drains")]


def test_a_drain_is_taken_back_when_the_number_rises_again() -> None:
    leaving = chat("b", drain_intent=True, drain_told=True, draining_since=NOW - 1)
    assert decided(seen(chat("a"), leaving)) == [Undrain("b", "is wanted again")]


@pytest.mark.parametrize(
    "fields",
    [
        {"condemned": True},
        {"revision": "old"},
        {"drain_intent": False},
        {"delivers": False},
        {"draining_since": NOW - 5},  # its deadline: whoever is still there is about to be closed
    ],
)
def test_some_drains_are_not_taken_back(fields: dict[str, object]) -> None:
    leaving = chat("b", **{"drain_intent": True, "drain_told": True, "draining_since": NOW - 1, **fields})
    assert decided(seen(chat("a"), leaving)) == [Start(PodKind.CHAT, REVISION, "too few pods")]


def test_a_pod_that_ends_takes_the_place_of_one_that_surges() -> None:
    ending = chat("c", revision="old", ready=False, stopping=True)
    old = [chat("a", revision="old"), chat("b", revision="old")]
    registry = RegistryView(tuple(EntryView(pod.name, pod.incarnation, True) for pod in old), "old")
    assert not any(isinstance(action, Start) for action in decided(seen(*old, ending, registry=registry)))
    assert any(isinstance(action, Start) for action in decided(seen(*old, registry=registry)))


def test_a_pod_that_ends_is_given_to_nobody() -> None:
    ending = chat("c", ready=False, stopping=True)
    (policy,) = plan(SPEC, seen(chat("a"), chat("b"), ending), NOW)
    assert policy == SetPolicy(REVISION, frozenset({"c"}))


def test_a_condemned_pod_is_replaced_before_it_drains() -> None:
    condemned = chat("b", condemned=True)
    assert decided(seen(chat("a"), condemned)) == [
        Start(PodKind.CHAT, REVISION, "replaces a pod that was asked to go")
    ]
    starting = chat("c", ready=False, ever_ready=False, started_at=NOW - 1)
    assert decided(seen(chat("a"), condemned, starting)) == []
    assert decided(seen(chat("a"), condemned, chat("c"))) == [Drain("b", "was asked to go")]


def waiting(name: str, for_s: float, **fields: object) -> PodView:
    """For a node."""
    since = {"started_at": NOW - for_s, "scheduled": False, "ready": False, "ever_ready": False}
    return chat(name, **{**since, "connections": None, **fields})


def test_a_condemned_pod_that_no_node_has_a_successor_for_goes_all_the_same() -> None:
    """Its clients go where there are seats for them: not if they were cut off by it, and one pod after the other."""
    spec = msgspec.structs.replace(make_spec(3, per_pod=20, deadline_s=12), rollout=Rollout(surge=2))
    revision = revision_of(spec, PodKind.CHAT)

    def pods(free: int = 10, **fields: object) -> list[PodView]:
        going = [chat(name, condemned=True, connections=10) for name in ("a", "b")]
        stays = {"connections": 20 - free, **fields}
        mine = [*going, chat("c", **stays), waiting("d", 12), waiting("e", 12)]
        return [msgspec.structs.replace(pod, revision=revision) for pod in mine]

    goes = [Drain("a", "was asked to go, and no node has room for another")]
    assert decided(seen(*pods()), spec) == goes
    assert decided(seen(*pods(free=9)), spec) == [], "no seats for its clients"
    assert decided(seen(*pods(connections=None)), spec) == [], "nobody knows of any"
    assert decided(seen(*pods(condemned=True)), spec) == [], "nobody stays"
    assert decided(seen(*pods()), spec, NOW - 1) == [], "a node may yet be found"
    left = msgspec.structs.replace(pods()[0], drain_intent=True, drain_told=True, draining_since=NOW)
    assert decided(seen(left, *pods()[1:]), spec) == [], "one after the other"


def test_while_no_node_takes_the_new_revision_lost_pods_are_replaced_by_good_ones() -> None:
    good = {"revision": "good", "connections": 5}
    stuck = {"last_good": "good"}
    another = Start(PodKind.CHAT, "good", "too few pods")
    assert decided(seen(chat("a", **good), waiting("n", 10), **stuck)) == [another]
    new = [Start(PodKind.CHAT, REVISION, "new revision")]
    assert decided(seen(chat("a", **good), waiting("n", 9), **stuck)) == new, "a node may yet be found"
    assert decided(seen(chat("a", **good), waiting("n", 10))) == new, "nobody knows a good one"
    starting = chat("b", ready=False, ever_ready=False, started_at=NOW - 1, revision="good")
    both = [chat("a", **good), starting]
    assert decided(seen(*both, waiting("n", 10), **stuck)) == [], "it is let start"
    assert decided(seen(*both, waiting("n", 10), waiting("m", 10), **stuck)) == [
        Delete("m", "scaled down", 5.0)
    ], "no more of them wait than may surge"
    scheduled = chat("n", ready=False, ever_ready=False, started_at=NOW - 1)
    assert decided(seen(*both, scheduled, **stuck)) == [Delete("b", "outgoing revision", 5.0)]
    four = make_spec(4)
    assert decided(seen(*both, waiting("n", 10), **stuck), four) == [another] * 2, "scaled up, too"


def test_an_unresponsive_pod_is_replaced_only_when_its_lease_is_gone_too() -> None:
    frozen = chat("a", answered_at=NOW - 16, ready=False)
    alive = RegistryView((EntryView("a", "a/i", True), EntryView("b", "b/i", True)), REVISION)
    gone = RegistryView((EntryView("a", "a/i", False), EntryView("b", "b/i", True)), REVISION)
    assert decided(seen(frozen, chat("b"), registry=alive)) == []
    assert decided(seen(frozen, chat("b"), registry=gone)) == [
        Delete("a", "does not answer", 0.0),
        Start(PodKind.CHAT, REVISION, "too few pods"),
    ]
    while_redis_is_away = Observed(pods=(frozen, chat("b"), *others()), registry=None)
    assert decided(while_redis_is_away) == []


def test_when_redis_is_back_pods_get_the_time_to_write_their_leases_again() -> None:
    silent = chat("a", answered_at=NOW - 60, ready=False)
    gone = RegistryView((EntryView("b", "b/i", True),))
    for registry_since, decision in ((NOW - 15, []), (NOW - 16, [Delete("a", "does not answer", 0.0)])):
        actions = decided(seen(silent, chat("b"), registry=gone, registry_since=registry_since))
        assert [action for action in actions if isinstance(action, Delete)] == decision


def test_without_redis_dead_pods_are_replaced_all_the_same() -> None:
    observed = Observed(pods=(chat("a", alive=False), chat("b"), *others()), registry=None)
    assert [type(action) for action in plan(SPEC, observed, NOW)] == [Forget, Start]


def test_a_pod_that_does_not_start_in_time_has_failed() -> None:
    stuck = chat("a", ready=False, ever_ready=False, started_at=NOW - 61)
    assert decided(seen(stuck, chat("b")))[0] == Delete("a", "does not answer", 0.0)


def test_the_outgoing_revision_is_served_until_the_new_one_is_ready() -> None:
    old = [chat("a", revision="old"), chat("b", revision="old")]
    registry = RegistryView(tuple(EntryView(pod.name, pod.incarnation, True) for pod in old), "old")
    assert plan(SPEC, seen(*old, registry=registry), NOW) == [Start(PodKind.CHAT, REVISION, "new revision")]
    entries = (*registry.entries, EntryView("c", "c/i", True))
    actions = plan(SPEC, seen(*old, chat("c"), registry=RegistryView(entries, "old")), NOW)
    assert actions[0] == SetPolicy(REVISION, frozenset({"a"}))
    assert [action for action in actions if isinstance(action, Drain)] == [Drain("a", "outgoing revision")]


def test_pods_of_a_given_up_revision_that_never_worked_make_room_at_once() -> None:
    old = [chat(name, revision="good") for name in ("a",)]
    stuck = [chat(name, ready=False, ever_ready=False, started_at=NOW - 1) for name in ("b", "c")]
    given_up = {"undone": frozenset({REVISION}), "last_good": "good"}
    assert decided(seen(*old, *stuck, **given_up)) == [
        Delete("b", "its revision was given up", 0.0),
        Delete("c", "its revision was given up", 0.0),
        Start(PodKind.CHAT, "good", "too few pods"),
    ]


def test_a_pod_that_is_unready_for_a_moment_is_not_drained_before_its_successor_is_ready() -> None:
    old = {"revision": "old", "connections": 5}
    blinking = chat("b", ready=False, unready_since=NOW - 1, **old)
    starting = chat("c", ready=False, ever_ready=False, started_at=NOW - 1, connections=None)
    assert decided(seen(chat("a", **old), blinking, starting)) == []
    assert decided(seen(chat("a", **old), blinking, chat("c"))) == [Drain("b", "outgoing revision")]
    gone = chat("b", ready=False, unready_since=NOW - UNREADY_S, **old)
    assert decided(seen(chat("a", **old), gone, starting)) == [Drain("b", "outgoing revision")]


def test_early_deaths_back_off_and_other_revisions_do_not_wait() -> None:
    failures = {(PodKind.CHAT, REVISION): Failures(3, NOW - 1)}
    assert decided(seen(chat("a"), failures=failures)) == []
    assert decided(seen(chat("a"), failures=failures), now=NOW + 1.1) != []
    other = {(PodKind.CHAT, "old"): Failures(3, NOW - 1)}
    assert decided(seen(chat("a"), failures=other)) != []
    waits = [backoff_s(count) for count in range(40)]
    assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
    assert all(a <= b <= 30 for a, b in pairwise(waits))


def test_the_excess_is_shed_after_a_disturbance_with_a_cooldown_and_only_when_calm() -> None:
    pods = [chat("a", connections=90), chat("b", connections=10)]
    shed = [Shed("a", 40, "90 connections, mean 50.0")]
    assert decided(seen(*pods, disturbed_at=NOW - 4)) == shed
    assert decided(seen(*pods)) == []
    assert decided(seen(*pods, disturbed_at=NOW - 1)) == []
    assert decided(seen(*pods, disturbed_at=NOW - 40, shed_at=NOW - 29)) == []
    assert decided(seen(*pods, disturbed_at=NOW - 40, shed_at=NOW - 30)) == shed
    assert decided(seen(*pods, disturbed_at=NOW - 400)) == []
    unknown = [chat("a", connections=90), chat("b", connections=None)]
    assert decided(seen(*unknown, disturbed_at=NOW - 4)) == []
    mixed = [chat("a", connections=90), chat("b", connections=10, revision="old")]
    rolling = decided(seen(*mixed, disturbed_at=NOW - 4))
    assert not any(isinstance(action, Shed) for action in rolling)


def test_a_round_of_shedding_is_over_before_the_next_begins_however_short_the_pause() -> None:
    """Who is on the way is still counted where they come from: they would be moved twice, and others for nothing."""
    spec = msgspec.structs.replace(SPEC, rebalance=Rebalance(cooldown_seconds=1))
    pods = [chat("a", connections=90), chat("b", connections=10)]
    under_way = seen(*pods, disturbed_at=NOW - 20, shed_at=NOW - 11)
    assert decided(under_way, spec) == []
    over = seen(*pods, disturbed_at=NOW - 20, shed_at=NOW - 12)
    assert decided(over, spec) == [Shed("a", 40, "90 connections, mean 50.0")]


def test_a_person_may_ask_for_a_round_of_rebalancing() -> None:
    pods = [chat("a", connections=56), chat("b", connections=44)]
    shed = [Shed("a", 6, "56 connections, mean 50.0")]
    assert decided(seen(*pods, disturbed_at=NOW - 4)) == [], "within the tolerance"
    assert decided(seen(*pods, rebalance_asked_at=NOW - 1)) == shed
    assert decided(seen(*pods, rebalance_asked_at=NOW - 1, shed_at=NOW - 2)) == shed, "whatever the cooldown"
    assert decided(seen(*pods, rebalance_asked_at=NOW - 2, shed_at=NOW - 1)) == [], "once"
    assert decided(seen(*pods, rebalance_asked_at=NOW - ASKED_S - 1)) == [], "nobody expects it any more"
    rolling = decided(seen(chat("a", connections=56), chat("b", revision="old"), rebalance_asked_at=NOW - 1))
    assert not any(isinstance(action, Shed) for action in rolling)


def test_an_entry_of_a_pod_that_nobody_knows_is_given_a_moment() -> None:
    """The pod may have been started and not been seen yet."""
    entries = [EntryView(name, name + "/i", True) for name in ("a", "b")]
    for seen_since, removed in ((NOW - 0.5, []), (NOW - 1, ["new"])):
        registry = RegistryView((*entries, EntryView("new", "new/i", True, seen_since)), REVISION)
        actions = decided(seen(chat("a"), chat("b"), registry=registry))
        assert [action.pod for action in actions if isinstance(action, RemoveEntry)] == removed


def test_a_scale_up_ends_with_even_pods() -> None:
    world = World(clients=60)
    world.settle(make_spec(2), 20)
    world.settle(make_spec(4), 60)
    counts = [pod.connections for pod in world.kind(PodKind.CHAT)]
    assert sum(counts) == 60
    assert max(counts) <= 15 * 1.25 + 1


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.none() | st.integers(0, 3)), max_size=8
    )
)
def test_victims_are_ranked_in_the_documented_order(rows: list[tuple[bool, bool, bool, int | None]]) -> None:
    pods = [
        chat(
            f"p{i}",
            ready=ready,
            drain_intent=draining,
            revision=REVISION if new else "old",
            connections=count,
        )
        for i, (ready, draining, new, count) in enumerate(rows)
    ]
    shuffled = pods[:]
    random.Random(0).shuffle(shuffled)
    ranked = rank_victims(shuffled, REVISION)
    for first, second in pairwise(ranked):
        if first.ready != second.ready:
            assert second.ready
        elif first.draining != second.draining:
            assert first.draining
        elif first.revision != second.revision:
            assert first.revision == "old"
        elif first.connections != second.connections:
            assert second.connections is None or (
                first.connections is not None and first.connections < second.connections
            )
        else:
            assert first.name < second.name


def test_only_what_needs_new_pods_changes_the_revision() -> None:
    from chatoperator.spec import ChatPods, LimitsSpec, Presence, Receipts
    from chatoperator.spec import Drain as DrainSpec

    def revision(kind: PodKind = PodKind.CHAT, **changes: object) -> str:
        return revision_of(msgspec.structs.replace(SPEC, **changes), kind)

    assert revision(drain=DrainSpec(rate_per_second=7)) == REVISION
    assert revision(limits=LimitsSpec(sends_per_s=7)) == REVISION
    assert revision(rebalance=Rebalance(tolerance=2)) == REVISION
    assert revision(chat_pods=ChatPods(replicas=9)) == REVISION
    assert revision(presence=Presence(heartbeat_seconds=1)) != REVISION
    assert revision(chat_pods=ChatPods(connections_per_pod=5)) != REVISION
    assert revision(chat_pods=ChatPods(hello_timeout_seconds=5)) != REVISION
    assert revision(receipts=Receipts(members_max=5)) != REVISION
    lease = ChatPods(lease_seconds=9)
    changed = {kind for kind in PodKind if revision(kind, chat_pods=lease) != revision(kind)}
    assert changed == {PodKind.CHAT, PodKind.WORKER}
    api = revision_of(SPEC, PodKind.API)
    assert revision(PodKind.API, chat_pods=ChatPods(connections_per_pod=5)) == api


def test_what_pods_follow_while_they_run_makes_no_new_ones_and_everything_else_of_access_does() -> None:
    """Each setting changes either the revision or what running pods are told: none is lost, none is told twice."""
    for name in Auth.__struct_fields__:
        present = getattr(Auth(), name)
        other = (
            not present
            if isinstance(present, bool)
            else present + 1
            if isinstance(present, int | float)
            else None
        )
        if name == "issuers":
            other = [IssuerSpec(issuer="https://a", jwks_url="https://a/keys", audience="chat")]
        elif name == "allowed_origins":
            other = ["https://a"]
        changed = msgspec.structs.replace(SPEC, auth=msgspec.structs.replace(Auth(), **{name: other}))
        new_pods = any(revision_of(changed, kind) != revision_of(SPEC, kind) for kind in PodKind)
        told = live_settings(changed) != live_settings(SPEC)
        assert new_pods is not told, name
