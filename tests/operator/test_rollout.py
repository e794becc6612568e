"""Which revision is wanted: a bad one is given up, a good one is not, and the delivery is waited for."""

from __future__ import annotations

import pytest
from msgspec import structs
from world import SimPod, World, make_spec

from chatoperator.model import Delete, Drain, PodKind, Start, Undrain
from chatoperator.revision import revision_of
from chatoperator.rollout import GOOD_AFTER_S, UNKNOWN_HOLD_S, judge, wanted_revision
from chatoperator.spec import Rollout, Spec

DEADLINE_S = 6
GOOD = make_spec(3, ready_deadline_s=DEADLINE_S)
NEXT = make_spec(3, version="2", ready_deadline_s=DEADLINE_S)
GOOD_REVISION, NEXT_REVISION = revision_of(GOOD, PodKind.CHAT), revision_of(NEXT, PodKind.CHAT)


def settled(spec: Spec = GOOD) -> World:
    """A cluster whose revision has proved good."""
    world = World(kubernetes=True)
    world.settle(spec, int(GOOD_AFTER_S) + 10)
    assert world.memory.rollout.last_good == revision_of(spec, PodKind.CHAT)
    world.history.clear()
    return world


def names(world: World) -> set[str]:
    return {pod.name for pod in world.serving()}


def revisions(world: World) -> set[str]:
    return {pod.revision for pod in world.kind(PodKind.CHAT)}


@pytest.mark.parametrize("fault", ["stuck", "bad"])
def test_a_revision_whose_pods_do_not_work_is_given_up_and_takes_no_good_pod_away(fault: str) -> None:
    world = settled()
    before = names(world)
    getattr(world, f"{fault}_revisions").add(NEXT_REVISION)
    for _ in range(60):
        world.step(NEXT)
        assert names(world) == before
    undone = world.memory.rollout.undone
    assert undone is not None
    assert undone.revision == NEXT_REVISION
    told = "3 were not ready within 6 s", "3 in a row died soon after they were started"
    assert undone.reason == f"of its pods {told[fault == 'bad']}"
    assert revisions(world) == {GOOD_REVISION}
    assert {pod.name for pod in world.kind(PodKind.CHAT)} == before, "and without a new one"


def test_a_given_up_revision_stays_so_until_the_spec_names_another() -> None:
    world = settled()
    world.stuck_revisions.add(NEXT_REVISION)
    world.settle(NEXT, 40)
    tried = world.names
    scaled = structs.replace(NEXT, chat_pods=structs.replace(NEXT.chat_pods, replicas=4))
    world.settle(scaled, 40)
    assert world.names == tried + 1, "what is added is of the last good revision"
    assert revisions(world) == {GOOD_REVISION}
    third = make_spec(4, version="3")
    world.settle(third, 80)
    assert revisions(world) == {revision_of(third, PodKind.CHAT)}
    assert world.memory.rollout.undone is None
    world.stuck_revisions.clear()
    world.settle(NEXT, 80)
    assert revisions(world) == {NEXT_REVISION}, "tried again, as another was wanted in between"


def test_one_pod_that_falls_ill_as_it_starts_condemns_no_revision() -> None:
    world = settled()
    world.step(NEXT)
    ill = next(pod for pod in world.pods if pod.revision == NEXT_REVISION)
    ill.stuck, ill.ever_ready = True, False
    world.settle(NEXT, 60)
    assert world.memory.rollout.undone is None
    assert revisions(world) == {NEXT_REVISION}
    assert ill not in world.pods


@pytest.mark.parametrize("undo", [True, False])
def test_while_the_tables_of_a_revision_are_made_the_last_good_one_goes_on(*, undo: bool) -> None:
    world = settled()
    following = structs.replace(NEXT, rollout=structs.replace(NEXT.rollout, undo=undo))
    world.held_revisions.add(NEXT_REVISION)
    world.settle(following, 5)
    assert revisions(world) == {GOOD_REVISION}
    world.die(world.kind(PodKind.CHAT)[0])
    world.step(following)
    assert [pod.revision for pod in world.kind(PodKind.CHAT)] == [GOOD_REVISION] * 3, "replaced at once"
    larger = structs.replace(following, chat_pods=structs.replace(NEXT.chat_pods, replicas=4))
    world.settle(larger, 5)
    assert [pod.revision for pod in world.serving()] == [GOOD_REVISION] * 4
    world.held_revisions.clear()
    world.settle(larger, 60)
    assert [pod.revision for pod in world.serving()] == [NEXT_REVISION] * 4


def test_meanwhile_one_that_runs_and_has_yet_to_prove_good_is_not_taken_back() -> None:
    world = settled()
    world.settle(NEXT, 20)
    assert revisions(world) == {NEXT_REVISION}
    assert world.memory.rollout.last_good == GOOD_REVISION
    before, third = names(world), make_spec(3, version="3")
    world.held_revisions.add(revision_of(third, PodKind.CHAT))
    world.settle(third, 20)
    assert names(world) == before
    world.held_revisions.clear()
    world.history.clear()
    world.settle(third, 60)
    assert revisions(world) == {revision_of(third, PodKind.CHAT)}
    assert sum(isinstance(action, Start) for action in world.history) == 3


def test_meanwhile_one_whose_pods_do_not_work_is_given_up_for_the_last_good_one() -> None:
    world = settled()
    before = names(world)
    world.stuck_revisions.add(NEXT_REVISION)
    world.step(NEXT)
    third = make_spec(3, version="3", ready_deadline_s=DEADLINE_S)
    world.held_revisions.add(revision_of(third, PodKind.CHAT))
    world.settle(third, 20)
    assert names(world) == before
    assert revisions(world) == {GOOD_REVISION}


def test_a_first_revision_waits_for_its_tables() -> None:
    world = World(kubernetes=True)
    observed = structs.replace(world.observed(), held=frozenset({GOOD_REVISION}))
    assert wanted_revision(GOOD, observed, PodKind.CHAT) == GOOD_REVISION


def test_without_undo_a_bad_revision_is_tried_for_ever_and_good_pods_stay() -> None:
    keep_trying = structs.replace(NEXT, rollout=Rollout(undo=False, ready_deadline_seconds=DEADLINE_S))
    world = settled()
    before = names(world)
    world.stuck_revisions.add(NEXT_REVISION)
    world.settle(keep_trying, 70)
    assert names(world) == before
    assert world.memory.rollout.undone is None
    assert sum(isinstance(action, Start) for action in world.history) >= 3


def test_the_first_revision_has_nothing_to_go_back_to() -> None:
    world = World(kubernetes=True, stuck_revisions={GOOD_REVISION})
    world.settle(GOOD, 60)
    assert world.memory.rollout.undone is None
    world.stuck_revisions.clear()
    world.settle(GOOD, 30)
    assert len(names(world)) == 3


def test_a_revision_that_does_not_deliver_takes_nobodys_place_and_is_given_up() -> None:
    world = settled()
    before = names(world)
    world.mute_revisions.add(NEXT_REVISION)
    for _ in range(30):
        world.step(NEXT)
        assert before <= names(world)
        assert all(pod.revision == GOOD_REVISION for pod in world.given_out())
    assert names(world) == before
    undone = world.memory.rollout.undone
    assert undone is not None
    assert "does not deliver" in undone.reason


def test_when_delivery_breaks_in_mid_rollout_it_stops_and_drains_are_taken_back() -> None:
    world = settled(make_spec(4, deadline_s=60))
    world.clients = 2_000
    spec = make_spec(4, version="2", deadline_s=60)
    while not any(pod.drain_told for pod in world.pods):
        world.step(spec)
    for pod in world.serving():
        if pod.revision == NEXT_REVISION:
            pod.mute_since = world.now
    good = {pod.name for pod in world.serving() if pod.revision == GOOD_REVISION}
    for _ in range(90):
        world.step(spec)
        assert good <= names(world)
    assert world.memory.rollout.undone is not None
    assert any(isinstance(action, Undrain) for action in world.history)
    assert revisions(world) == {GOOD_REVISION}
    assert len(names(world)) == 4


@pytest.mark.parametrize("whose", [GOOD_REVISION, NEXT_REVISION, ""])
def test_delivery_that_suffers_since_a_revision_is_there_is_held_against_it_after_a_while(whose: str) -> None:
    """`whose`: the pods that fail; if nobody can tell, it is taken to be the new ones."""
    from chatoperator.model import DeliveryView

    world = settled()
    world.step(NEXT)
    broken, fault_at = float(world.now), None
    for second in range(40):
        observed = world.observed()
        pods = tuple(
            structs.replace(
                pod,
                delivers=None if not whose else pod.revision != whose,
                undelivered_since=broken if pod.revision == whose else None,
            )
            for pod in observed.pods
        )
        delivery = DeliveryView(healthy=False, since=broken)
        observed = structs.replace(observed, pods=pods, delivery=delivery, desired=3)
        memory = judge(NEXT, observed, world.memory.rollout, float(world.now))
        fault_at = second if memory.undone and fault_at is None else fault_at
        world.tick()
    assert fault_at == {GOOD_REVISION: None, NEXT_REVISION: 10, "": 3 * DEADLINE_S}[whose]


def test_a_rollout_waits_while_delivery_is_disturbed_and_goes_on_when_it_is_not() -> None:
    world = settled()
    disturbed = world.serving()[0]
    disturbed.mute_since = world.now
    for _ in range(9):
        actions = world.step(NEXT)
        assert not any(isinstance(action, Drain) for action in actions)
    assert NEXT_REVISION in revisions(world), "the surge is there"
    disturbed.mute_since = None
    world.settle(NEXT, 60)
    assert revisions(world) == {NEXT_REVISION}


def test_without_the_gate_readiness_is_enough() -> None:
    no_gate = structs.replace(NEXT, rollout=Rollout(gate=False))
    world = settled()
    world.serving()[0].mute_since = world.now
    for _ in range(6):
        world.step(no_gate)
    assert any(isinstance(action, Drain) and action.reason == "outgoing revision" for action in world.history)


def test_a_prober_that_says_nothing_holds_a_rollout_up_only_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chatoperator.model import DeliveryView

    world = settled()
    silent = DeliveryView(healthy=None, since=float(world.now))
    monkeypatch.setattr(world, "_delivery", lambda: silent)
    world.settle(NEXT, int(UNKNOWN_HOLD_S) - 1)
    assert not any(isinstance(action, Drain) for action in world.history)
    world.settle(NEXT, 60)
    assert revisions(world) == {NEXT_REVISION}


def test_nothing_is_held_against_a_revision_while_redis_is_away() -> None:
    world = settled()
    world.step(NEXT)
    world.redis_up = False
    for pod in world.kind(PodKind.CHAT):
        pod.stuck = pod.revision == NEXT_REVISION  # it needs Redis to get ready
    world.settle(NEXT, 100)
    assert world.memory.rollout.undone is None
    world.redis_up = True
    for pod in world.pods:
        pod.stuck = False
    world.settle(NEXT, 60)
    assert revisions(world) == {NEXT_REVISION}


def test_a_pod_that_waits_for_a_node_is_waited_for() -> None:
    world = settled()
    world.room = 3
    world.settle(NEXT, 100)
    assert world.memory.rollout.undone is None
    assert sum(isinstance(action, Start) for action in world.history) == 1
    assert not any(isinstance(action, Drain | Delete) for action in world.history)
    world.room = 4
    world.settle(NEXT, 60)
    assert revisions(world) == {NEXT_REVISION}


def test_going_back_by_hand_in_mid_rollout_takes_drains_back_and_starts_nothing() -> None:
    world = World(kubernetes=True, clients=60)
    slow = make_spec(3, deadline_s=60)
    world.settle(slow, 45)
    while not any(pod.draining_since for pod in world.pods):
        world.step(make_spec(3, version="2", deadline_s=60))
    world.history.clear()
    world.settle(slow, 60)
    assert not any(isinstance(action, Start) for action in world.history)
    assert any(isinstance(action, Undrain) for action in world.history)
    assert revisions(world) == {GOOD_REVISION}


def test_after_a_restart_in_mid_rollout_the_revision_that_is_replaced_is_the_last_good_one() -> None:
    from chatoperator.round import Memory

    world = settled()
    world.step(NEXT)
    world.memory = Memory()
    world.stuck_revisions.add(NEXT_REVISION)
    for pod in world.kind(PodKind.CHAT):
        pod.stuck = pod.revision == NEXT_REVISION
    world.settle(NEXT, 60)
    assert world.memory.rollout.last_good == GOOD_REVISION
    assert world.memory.rollout.undone is not None


def _mute(world: World, count: int) -> list[SimPod]:
    pods = world.serving()[:count]
    for pod in pods:
        pod.mute_since = world.now
    return pods


def test_a_pod_that_does_not_deliver_is_taken_out_drained_and_replaced() -> None:
    world = settled()
    (mute,) = _mute(world, 1)
    world.settle(GOOD, 10)
    assert not any(isinstance(action, Drain) for action in world.history)
    world.step(GOOD)
    assert Drain(mute.name, "does not deliver") in world.history
    assert mute.name in world.policy.excluded
    world.settle(GOOD, 10)
    assert mute.name not in {pod.name for pod in world.pods}
    assert len(names(world)) == 3


def test_of_several_that_do_not_deliver_one_goes_at_a_time() -> None:
    world = settled(make_spec(5))
    spec, mute = make_spec(5), _mute(world, 4)
    for _ in range(60):
        world.step(spec)
        going = [pod for pod in world.pods if pod.mute_since is not None and pod.drain_intent]
        assert len(going) <= 1
        assert names(world), "and never all"
    assert not {pod.name for pod in mute} & {pod.name for pod in world.pods}
    assert len(names(world)) == 5


def test_if_nobody_delivers_it_is_not_the_pods() -> None:
    world = settled()
    _mute(world, 3)
    world.settle(GOOD, 60)
    assert not any(isinstance(action, Drain | Delete | Start) for action in world.history)


def test_a_pod_that_cannot_reach_redis_while_others_do_is_replaced() -> None:
    """Nothing gets to it or from it, though it seems well to its node."""
    world = settled()
    world.serving()[0].deaf = True
    world.settle(GOOD, 45)
    assert any(action == Drain("chat-1", "does not deliver") for action in world.history)
    assert "chat-1" not in names(world)
    assert len(names(world)) == 3


def test_if_no_pod_reaches_redis_it_is_not_the_pods() -> None:
    world = settled()
    for pod in world.serving():
        pod.deaf = True
    world.settle(GOOD, 100)
    assert not any(isinstance(action, Drain | Delete | Start) for action in world.history)
