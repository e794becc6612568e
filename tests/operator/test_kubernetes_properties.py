"""What the operator keeps on Kubernetes whatever happens: nodes that are cut off and come back, pods that do not
deliver, bad revisions, no room, and an operator that forgets everything. Found by hypothesis in a simulated world."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from world import NODE_LOST_S, SimPod, World, make_spec

from chatoperator.autoscale import ScalingMemory, decide
from chatoperator.census import rank_victims
from chatoperator.history import History
from chatoperator.model import (
    Delete,
    Drain,
    Forget,
    Observed,
    PodKind,
    PodView,
    RemoveEntry,
    SetPolicy,
    Start,
    Undrain,
)
from chatoperator.plan import plan
from chatoperator.revision import revision_of
from chatoperator.round import Memory, think
from chatoperator.spec import Autoscaling, Spec

GOOD_VERSIONS, BAD_VERSION = ("1", "2"), "3"

happenings = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(
                ["kill", "freeze", "cut", "mend", "mute", "deaf", "condemn", "evict", "vanish", "blink"]
            ),
            st.integers(0, 9),
        ),
        st.tuples(st.just("scale"), st.integers(1, 6)),
        st.tuples(st.just("people"), st.integers(0, 120)),
        st.tuples(st.just("version"), st.integers(1, 3)),
        st.tuples(st.just("redis"), st.integers(0, 1)),
        st.tuples(st.just("room"), st.integers(1, 8)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=12,
)


def happen(world: World, spec: Spec, what: str, number: int) -> Spec:
    match what:
        case "scale":
            chat_pods = structs.replace(spec.chat_pods, replicas=number)
            return structs.replace(spec, chat_pods=chat_pods)
        case "version":
            return structs.replace(spec, version=str(number))
        case "people":
            world.clients = number
        case "redis":
            world.redis_up = bool(number)
        case "room":
            world.room = number
        case "restart":
            world.operator, world.memory = History(), Memory()
        case "mend":
            world.mend()
        case _:
            pods = [pod for pod in world.pods if pod.alive]
            if pods:
                _befall(world, pods[number % len(pods)], what)
    return spec


def _befall(world: World, pod: SimPod, what: str) -> None:
    match what:
        case "kill":
            world.die(pod)
        case "vanish":  # deleted by force
            world.pods.remove(pod)
            world.zombies += [pod] if pod.cut_at is not None else []
        case "evict":
            pod.stopping_since = world.now
        case "freeze":
            pod.frozen = True
        case "cut":
            pod.cut_at = world.now
        case "mute":
            pod.mute_since = world.now if pod.ever_ready else None
        case "deaf":
            pod.deaf = True
        case "condemn":
            pod.condemned = True
        case "blink":
            pod.blinks_until = world.now + 3


def serving(observed: Observed) -> set[str]:
    """As the operator sees it."""
    entries = observed.registry.entries if observed.registry is not None else None
    held = {entry.name for entry in entries if entry.live} if entries is not None else None
    return {
        pod.name
        for pod in observed.pods
        if pod.ready and pod.delivers is not False and not (pod.draining or pod.stopping or pod.gone)
        if held is None or pod.name in held
    }


def step_and_check(world: World, spec: Spec) -> None:
    """Our own action leaves as many serving as are wanted, or as there were; names each pod once; and asks for
    nothing that is under way. Of those that a person wants to go there may be one fewer while there is no room for
    another, if any other serves."""
    observed = world.observed()
    pods, before = {pod.name: pod for pod in observed.pods}, serving(observed)
    actions = world.step(spec)
    named = Counter(action.pod for action in actions if isinstance(action, Drain | Undrain | Delete))
    assert not [pod for pod, count in named.items() if count > 1]
    going = {action.pod for action in actions if isinstance(action, Drain | Delete)}
    desired = world.memory.scaling.replicas
    assert desired is not None
    full = any(not pod.scheduled for pod in observed.pods)
    asked = {name for name in going & before if full and pods[name].condemned}
    assert len(before - (going - asked)) >= min(desired, len(before))
    assert not asked or (len(asked) == 1 and before - going)
    for action in actions:
        match action:
            case Delete(name):
                assert not pods[name].stopping
            case Drain(name):
                assert not (pods[name].drain_intent and pods[name].drain_told)
            case Undrain(name):
                assert pods[name].drain_intent
            case RemoveEntry(name, for_good=True):
                assert name not in pods or pods[name].node_lost or pods[name].gone


scalings = st.none() | st.builds(
    lambda low, more: Autoscaling(
        min=low, max=low + more, target_utilisation=0.5, scale_down_stabilisation_seconds=20
    ),
    st.integers(1, 3),
    st.integers(0, 4),
)


@given(happenings, st.integers(1, 4), st.integers(1, 2), scalings, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_whatever_happens_enough_serve_and_it_ends_with_what_was_asked_for(
    events: list[tuple[str, int]], replicas: int, surge: int, scaling: Autoscaling | None, start_s: int
) -> None:
    world = World(kubernetes=True, start_s=start_s)
    spec = make_spec(replicas, surge=surge, ready_deadline_s=10, autoscaling=scaling, per_pod=50)
    bad = structs.replace(spec, version=BAD_VERSION)
    world.stuck_revisions.add(revision_of(bad, PodKind.CHAT))
    for what, number in events:
        spec = happen(world, spec, what, number)
        for _ in range(number if what == "wait" else 1):
            step_and_check(world, spec)
    world.redis_up, world.room = True, 1000
    for pod in world.pods:
        pod.mute_since, pod.deaf = None, False
    for _ in range(200):
        step_and_check(world, spec)
    rollout, wanted = world.memory.rollout, {revision_of(spec, PodKind.CHAT)}
    if rollout.undone is not None:  # also a good one whose first pod fell ill as it started
        wanted = {rollout.last_good}
    elif wanted <= world.stuck_revisions:
        assert not serving(world.observed()), "it was all there ever was"
    chat = [pod for pod in world.kind(PodKind.CHAT) if pod.cut_at is None]
    desired = decide(spec, world.observed(), ScalingMemory(0), float(world.now)).replicas
    assert len(chat) == desired, "as many as are wanted by whoever knows nothing of the time before"
    assert {pod.revision for pod in chat} == wanted
    if wanted & world.stuck_revisions:
        return
    assert all(pod.is_ready(world.now) and not pod.condemned for pod in chat)
    assert set(world.entries) == {pod.name for pod in chat}
    ended = frozenset(pod.name for pod in world.kind(PodKind.CHAT) if pod.cut_at is not None)
    assert world.policy == SetPolicy(wanted.pop(), ended)
    assert sum(pod.connections for pod in chat) == world.clients
    world.mend()
    names = {pod.name for pod in chat}
    for _ in range(5):
        actions = world.step(spec)
        assert all(isinstance(action, Forget | RemoveEntry | SetPolicy) for action in actions)
        assert {pod.name for pod in world.given_out()} == names
    assert world.step(spec) == [], "nothing more to do"
    assert set(world.entries) == names, "and no zombie registers"


@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pods_of_a_lost_node_are_replaced_at_once_and_never_register_again(
    replicas: int, cut: int, redis_stays: bool
) -> None:
    world, spec = World(kubernetes=True), make_spec(replicas)
    world.settle(spec, 40)
    lost = world.serving()[:cut]
    for pod in lost:
        pod.cut_at = world.now
    world.redis_up = redis_stays
    world.settle(spec, NODE_LOST_S)
    world.history.clear()
    world.step(spec)
    if redis_stays:
        assert sum(isinstance(action, Start) for action in world.history) == len(lost)
    else:  # nobody can tell whether people are served there
        assert not any(isinstance(action, Delete | RemoveEntry) for action in world.history)
    world.redis_up = True
    world.settle(spec, 3)
    world.mend()
    for _ in range(10):
        world.step(spec)
        assert not {pod.name for pod in lost} & {pod.name for pod in world.given_out()}
    assert len(world.serving()) == replicas
    assert not {pod.name for pod in lost} & set(world.entries)


def test_a_node_that_only_the_control_plane_has_lost_is_left_without_haste() -> None:
    """Its pods renew their leases, so people are served there: new pods first."""
    world, spec = World(kubernetes=True, start_s=3), make_spec(2)
    world.settle(spec, 40)
    names = {pod.name for pod in world.serving()}
    for _ in range(60):
        observed = world.observed()
        views = tuple(structs.replace(pod, node_lost=pod.name in names) for pod in observed.pods)
        observed = structs.replace(observed, pods=views)
        thought = think(spec, observed, world.memory, float(world.now), (PodKind.CHAT,))
        world.memory = thought.memory
        for action in thought.actions:
            world.apply(action)
        world.tick()
        assert len(world.serving()) >= 2
    assert not names & {pod.name for pod in world.serving()}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans(), st.integers(0, 2)), max_size=9
    )
)
def test_the_order_of_victims_is_total_and_keeps_zones_even(rows: list[tuple[int, str, bool, int]]) -> None:
    pods = [
        PodView(
            name=f"p{number}",
            kind=PodKind.CHAT,
            revision="r",
            started_at=started_at,
            zone=zone,
            ready=ready,
            ever_ready=True,
            connections=connections,
        )
        for number, (connections, zone, ready, started_at) in enumerate(rows)
    ]
    ranked = rank_victims(pods, "r")
    assert sorted(pod.name for pod in ranked) == sorted(pod.name for pod in pods)
    assert rank_victims(reversed(pods), "r") == ranked
    alike = [structs.replace(pod, ready=True, connections=1) for pod in pods]
    left = Counter(pod.zone for pod in alike)
    for pod in rank_victims(alike, "r"):
        assert left[pod.zone] == max(left.values()), "from where most are"
        left[pod.zone] -= 1


@given(happenings)
@settings(max_examples=30, deadline=None)
def test_a_paused_cluster_is_left_alone_and_nothing_is_held_against_it(events: list[tuple[str, int]]) -> None:
    world, spec = World(kubernetes=True), make_spec(3)
    world.settle(spec, 40)
    memory = world.memory
    for what, number in events:
        spec = happen(world, spec, what, number) if what != "restart" else spec
        paused = structs.replace(spec, pause=True)
        assert plan(paused, world.observed(), float(world.now)) == []
        thought = think(paused, world.observed(), memory, float(world.now))
        assert thought.memory.rollout == memory.rollout
        assert thought.actions == ()
        world.tick()


@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_scale_down_that_is_cancelled_moves_nobody_else(high: int, fewer: int, after: int) -> None:
    low = max(1, high - fewer)
    world = World(kubernetes=True, clients=600)
    spec = make_spec(high, deadline_s=100)
    world.settle(spec, 20)
    for _ in range(after):
        world.step(make_spec(low, deadline_s=100))
    world.history.clear()
    world.settle(spec, 30)
    assert not any(isinstance(action, Drain) for action in world.history)
    started = sum(isinstance(action, Start) for action in world.history)
    taken_back = sum(isinstance(action, Undrain) for action in world.history)
    assert started + taken_back == high - low
    assert len(world.serving()) == high
