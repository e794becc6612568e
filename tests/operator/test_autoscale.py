"""How many chat pods there should be: by example, and whatever the counts."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from world import World, make_spec

from chatoperator.autoscale import (
    DISTURBED_S,
    Decision,
    LimitedBy,
    Load,
    ScalingMemory,
    decide,
    load_of,
)
from chatoperator.model import Observed, PodKind, PodView, RegistryView
from chatoperator.spec import Autoscaling, Spec

WINDOW_S = 300.0


def spec_of(*, at_least: int = 2, at_most: int = 10, headroom: int = 0, window_s: float = WINDOW_S) -> Spec:
    scaling = Autoscaling(
        min=at_least,
        max=at_most,
        target_utilisation=0.7,
        headroom=headroom,
        scale_down_stabilisation_seconds=window_s,
    )
    return make_spec(autoscaling=scaling, per_pod=100)


def seen(*counts: int | None, pending: int = 0, **fields: object) -> Observed:
    pods = [
        PodView(
            name=f"p{i}", kind=PodKind.CHAT, revision="r", started_at=0, connections=count, ever_ready=True
        )
        for i, count in enumerate(counts)
    ]
    pods += [
        PodView(name=f"new{i}", kind=PodKind.CHAT, revision="r", started_at=0, scheduled=False)
        for i in range(pending)
    ]
    return Observed(**{"pods": tuple(pods), "registry": RegistryView(), **fields})  # type: ignore[arg-type]


def first(spec: Spec, observed: Observed) -> Decision:
    return decide(spec, observed, ScalingMemory(), 0.0)


def replay(spec: Spec, looks: list[tuple[float, Observed]]) -> list[int]:
    memory, numbers = ScalingMemory(), []
    for now, observed in looks:
        decision = decide(spec, observed, memory, now)
        memory = decision.memory
        numbers.append(decision.replicas)
    return numbers


def test_without_autoscaling_the_spec_says_it() -> None:
    decision = first(make_spec(4), seen(9_000))
    assert (decision.replicas, decision.reason) == (4, "spec.chatPods.replicas says so")


def test_pods_are_held_at_their_target() -> None:
    decision = first(spec_of(), seen(100, 100, 10))
    assert decision.replicas == 3
    assert decision.reason == "210 connections want 3 pods at 70% of 100"
    assert first(spec_of(), seen(100, 100, 11)).replicas == 4
    assert first(spec_of(headroom=1), seen(100, 100, 10)).replicas == 4


def test_the_bounds_hold_and_are_told() -> None:
    most = first(spec_of(at_most=3), seen(100, 100, 100))
    assert (most.replicas, most.limited_by) == (3, LimitedBy.MAX)
    assert most.reason == "300 connections want 5 pods at 70% of 100; max is 3"
    least = first(spec_of(at_least=4), seen())
    assert (least.replicas, least.limited_by) == (4, LimitedBy.MIN)


def test_more_pods_at_once_and_fewer_after_the_window() -> None:
    busy, calm = seen(70, 70, 70, 70), seen(35, 35, 35, 35)
    looks = [(0.0, busy), (10.0, calm), (299.0, calm), (301.0, calm), (302.0, busy)]
    assert replay(spec_of(), looks) == [4, 4, 4, 2, 4]


def test_the_highest_recommendation_of_the_window_counts() -> None:
    looks = [(0.0, seen(350)), (100.0, seen(210)), (200.0, seen(140)), (301.0, seen(140)), (401.0, seen(140))]
    assert replay(spec_of(), looks) == [5, 5, 5, 3, 2]


def test_a_load_that_swings_round_a_threshold_changes_nothing() -> None:
    looks = [(second * 2.0, seen(140 + second % 2)) for second in range(1_000)]
    assert set(replay(spec_of(), looks[1:])) == {3}


def test_after_a_restart_the_window_begins_with_the_present_number() -> None:
    decision = decide(spec_of(), seen(0, 0, 0, 0, 0, 0), ScalingMemory(replicas=6), 0.0)
    assert decision.replicas == 6
    assert decide(spec_of(), seen(0), decision.memory, WINDOW_S + 1).replicas == 2
    nothing_known = first(spec_of(), seen(0, 0, 0, 0, 0))
    assert nothing_known.replicas == 5


def test_a_metrics_outage_never_makes_pods_fewer() -> None:
    five = seen(70, 70, 70, 70, 70)
    for dark in (seen(None, None, None, None, None), seen(70, 70, 70, 70, None), seen(registry=None)):
        looks = [(0.0, five), (1.0, dark), (1_000.0, dark), (9_000.0, dark)]
        assert min(replay(spec_of(window_s=0), looks)) == 5
    decision = decide(spec_of(window_s=0), seen(10, 10, None), ScalingMemory(replicas=5), 0.0)
    assert (decision.replicas, decision.limited_by) == (5, LimitedBy.UNKNOWN)
    assert decision.reason == (
        "20 connections and 1 pod of unknown load want 2 pods at 70% of 100; 5 until all counts are known again"
    )


def test_a_look_without_counts_starts_no_pod_whatever_the_headroom() -> None:
    spec, five = spec_of(headroom=70), seen(70, 70, 70, 70, 0)
    for dark in (
        seen(None, None, None, None, None),
        seen(70, 70, 70, 70, None),
        seen(70, None, None, 70, 70),
    ):
        assert replay(spec, [(0.0, five), (1.0, dark), (2.0, five)]) == [5, 5, 5]
    assert replay(spec, [(0.0, five), (1.0, seen(140, 140, 140, 140, None))]) == [5, 9]


def test_pods_without_a_node_neither_count_nor_hinder() -> None:
    looks = [(0.0, seen(210, pending=3)), (299.0, seen(140, pending=3)), (301.0, seen(140, pending=3))]
    assert replay(spec_of(), looks) == [3, 3, 2]


def test_who_is_on_the_way_back_after_a_failure_is_not_forgotten() -> None:
    spec = spec_of(at_least=1, window_s=0)
    memory = ScalingMemory(replicas=2)
    just_now = seen(60, disturbed_at=100.0)
    assert decide(spec, just_now, memory, 101.0).replicas == 2
    assert decide(spec, just_now, memory, 100.0 + DISTURBED_S).replicas == 1


def test_a_pause_leaves_the_number_as_it_is() -> None:
    memory = ScalingMemory(replicas=3)
    paused = msgspec.structs.replace(spec_of(), pause=True)
    decision = decide(paused, seen(999), memory, 5.0)
    assert (decision.replicas, decision.limited_by, decision.memory) == (3, LimitedBy.PAUSED, memory)


def test_a_full_pod_is_one_whatever_the_product_is_in_binary() -> None:
    """0.29 of 100 is 28.999999999999996."""
    spec = make_spec(autoscaling=Autoscaling(min=1, max=10, target_utilisation=0.29), per_pod=100)
    assert [first(spec, seen(count)).replicas for count in (29, 30, 87, 88)] == [1, 2, 3, 4]


def test_after_a_restart_those_that_go_are_not_those_that_are_wanted() -> None:
    seen_now = seen(10, 10, 10, 10, 10)
    pods = [
        msgspec.structs.replace(pod, **change)
        for pod, change in zip(
            seen_now.pods,
            [{}, {}, {"stopping": True}, {"drain_intent": True}, {"alive": False}],
            strict=True,
        )
    ]
    left = msgspec.structs.replace(seen_now, pods=tuple(pods))
    assert first(spec_of(at_least=1), left).replicas == 2


def test_who_was_on_a_pod_that_is_gone_is_counted_where_they_are() -> None:
    gone = msgspec.structs.replace(seen(90).pods[0], name="gone", alive=False)
    observed = seen(60, 30)
    observed = msgspec.structs.replace(observed, pods=(*observed.pods, gone))
    assert load_of(observed) == Load(90, 0)
    unknown = msgspec.structs.replace(gone, connections=None)
    assert load_of(msgspec.structs.replace(observed, pods=(unknown,))) == Load(0, 0)


def test_bounds_that_change_hold_at_once() -> None:
    memory = decide(spec_of(), seen(350), ScalingMemory(), 0.0).memory
    assert decide(spec_of(at_most=3), seen(350), memory, 1.0).replicas == 3
    assert decide(spec_of(at_least=8), seen(350), memory, 1.0).replicas == 8


def test_a_change_is_remembered_with_its_reason() -> None:
    memory = first(spec_of(), seen(70, 70)).memory
    assert memory.last is None
    last = decide(spec_of(), seen(100, 100, 100), memory, 5.0).memory.last
    assert last is not None
    assert (last.at, last.before, last.after) == (5.0, 2, 5)
    assert last.reason == "300 connections want 5 pods at 70% of 100"


counts = st.lists(st.none() | st.integers(0, 200), max_size=12)
moments = st.lists(st.tuples(st.integers(1, 400), counts, st.booleans()), min_size=1, max_size=12)


@given(moments, st.integers(1, 5), st.integers(0, 20), st.sampled_from([0.0, 60.0, 300.0]))
def test_whatever_the_counts_it_stays_in_bounds_and_never_shrinks_blindly(
    rows: list[tuple[int, list[int | None], bool]], low: int, more: int, window_s: float
) -> None:
    spec = spec_of(at_least=low, at_most=low + more, window_s=window_s)
    memory, now = ScalingMemory(), 0.0
    for passed, row, redis_up in rows:
        now += passed
        observed = seen(*row, registry=RegistryView() if redis_up else None)
        decision = decide(spec, observed, memory, now)
        assert low <= decision.replicas <= low + more
        before = memory.replicas
        if before is not None and (None in row or not redis_up):
            assert decision.replicas >= before
        memory = decision.memory
        assert len(memory.recommendations) <= 1_000
        again = decide(spec, observed, memory, now)
        assert again.replicas == decision.replicas
        assert again.memory == memory


@given(st.lists(st.integers(0, 200), max_size=8), st.integers(0, 200))
def test_more_connections_never_mean_fewer_pods(row: list[int], extra: int) -> None:
    spec = spec_of(at_least=1, at_most=1_000)
    assert first(spec, seen(*row, extra)).replicas >= first(spec, seen(*row)).replicas


def test_a_world_grows_with_its_people_and_shrinks_after_them() -> None:
    scaling = Autoscaling(min=1, max=6, target_utilisation=0.5, scale_down_stabilisation_seconds=30)
    world, spec = World(kubernetes=True, clients=10), make_spec(autoscaling=scaling, per_pod=20)
    world.settle(spec, 20)
    assert len(world.serving()) == 1
    world.clients = 55
    world.settle(spec, 30)
    assert len(world.serving()) == 6
    world.clients = 15
    world.settle(spec, 25)
    assert len(world.serving()) == 6, "not before the window has passed"
    world.settle(spec, 40)
    assert len(world.serving()) == 2
    assert sum(pod.connections for pod in world.serving()) == 15
