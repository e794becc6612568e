"""What the plan keeps whatever happens: found by hypothesis in a simulated world."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, make_spec

from chatoperator.model import Delete, Drain, PodKind, SetPolicy, Undrain
from chatoperator.plan import plan
from chatoperator.revision import revision_of
from chatoperator.spec import Spec

happenings = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["kill", "freeze", "thaw", "condemn", "sigterm"]), st.integers(0, 9)),
        st.tuples(st.just("scale"), st.integers(1, 6)),
        st.tuples(st.just("version"), st.integers(1, 3)),
        st.tuples(st.just("redis"), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.just("blink"), st.integers(0, 9)),
    ),
    max_size=12,
)


def happen(world: World, spec: Spec, what: str, number: int) -> Spec:
    import msgspec

    pods = [pod for pod in world.pods if pod.alive]
    pod = pods[number % len(pods)] if pods else None
    if what == "scale":
        return make_spec(number, version=spec.version)
    if what == "version":
        return msgspec.structs.replace(spec, version=str(number))
    if what == "redis":
        world.redis_up = bool(number)
        if world.redis_up:
            world.entries.clear()
    if pod is not None:
        if what == "kill":
            world.die(pod)
        elif what == "blink":
            pod.blinks_until = world.now + 1 + number // 4
        elif what in ("freeze", "thaw"):
            pod.frozen = what == "freeze"
        elif what == "condemn" and pod.kind is PodKind.CHAT:
            pod.condemned = True
        elif what == "sigterm" and pod.kind is PodKind.CHAT and pod.ever_ready:
            pod.drain_told, pod.draining_since = True, world.now
    return spec


@given(happenings, st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=120, deadline=None)
def test_whatever_happens_it_ends_with_what_was_asked_for(
    events: list[tuple[str, int]], replicas: int, start_s: int
) -> None:
    world, spec = World(start_s=start_s), make_spec(replicas)
    for what, number in events:
        spec = happen(world, spec, what, number)
        for _ in range(number if what == "wait" else 1):
            actions = world.step(spec)
            named = Counter(action.pod for action in actions if isinstance(action, Drain | Undrain | Delete))
            assert not [pod for pod, count in named.items() if count > 1]
    world.redis_up = True
    world.settle(spec)
    revision = revision_of(spec, PodKind.CHAT)
    chat = world.kind(PodKind.CHAT)
    assert len(chat) == spec.chat_pods.replicas
    assert all(pod.is_ready(world.now) and pod.revision == revision and not pod.condemned for pod in chat)
    assert (len(world.kind(PodKind.API)), len(world.kind(PodKind.WORKER))) == (1, 1)
    assert set(world.entries) == {pod.name for pod in chat}
    assert world.policy == SetPolicy(revision, frozenset())
    assert sum(pod.connections for pod in chat) == world.clients
    assert plan(spec, world.observed(), float(world.now)) == [], "nothing more to do"


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_rollout_never_goes_below_the_desired_number_nor_above_the_surge(
    replicas: int, surge: int, start_s: int, clients: int
) -> None:
    world, spec = World(start_s=start_s, clients=clients), make_spec(replicas, surge=surge)
    world.settle(spec, 20)
    spec = make_spec(replicas, surge=surge, version="2")
    for _ in range(replicas * 15):
        world.step(spec)
        assert len(world.serving()) >= replicas
        assert len(world.kind(PodKind.CHAT)) <= replicas + surge
        revisions = {pod.revision for pod in world.given_out()}
        assert len(revisions) <= 1, "discovery gives one revision at a time"
    assert {pod.revision for pod in world.serving()} == {revision_of(spec, PodKind.CHAT)}


blinks = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(1, 4)), max_size=12)


@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 4), blinks)
@settings(max_examples=150, deadline=None)
def test_a_rollout_drains_nobody_for_a_slow_answer(
    replicas: int, surge: int, start_s: int, slow: list[tuple[int, int, int]]
) -> None:
    """`slow`: (tick, pod, seconds), in which that pod serves and does not answer the operator."""
    world, spec = World(start_s=start_s), make_spec(replicas, surge=surge)
    world.settle(spec, 20)
    spec = make_spec(replicas, surge=surge, version="2")
    for tick in range(31):
        for at, number, seconds in slow:
            if at == tick and (chat := world.kind(PodKind.CHAT)):
                chat[number % len(chat)].blinks_until = world.now + seconds
        seemed_ready = {pod.name for pod in world.serving() if pod.seems_ready(world.now)}
        drained = {action.pod for action in world.step(spec) if isinstance(action, Drain)}
        assert not drained or len(seemed_ready - drained) >= replicas
        assert len(world.kind(PodKind.CHAT)) <= replicas + surge
    world.settle(spec, replicas * 15)
    assert {pod.revision for pod in world.serving()} == {revision_of(spec, PodKind.CHAT)}


@given(st.integers(2, 5), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_bad_revision_never_takes_a_good_pod_away(replicas: int, surge: int) -> None:
    world, spec = World(), make_spec(replicas, surge=surge)
    world.settle(spec, 20)
    good = {pod.name for pod in world.serving()}
    bad = make_spec(replicas, surge=surge, version="bad")
    world.bad_revisions.add(revision_of(bad, PodKind.CHAT))
    world.settle(bad, 60)
    assert {pod.name for pod in world.serving()} == good
    world.settle(spec, 10)
    assert {pod.name for pod in world.kind(PodKind.CHAT)} == good, "undone without a new pod"


@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_scaling_moves_each_client_at_most_once(high: int, low: int, pause: int) -> None:
    """Whoever is moved goes to a pod that stays: none of the pods that receive is drained later."""
    high, low = max(high, low), min(high, low)
    world, spec = World(clients=30), make_spec(high)
    world.settle(spec, 20 + pause)
    keep = make_spec(low)
    drained: set[str] = set()
    for _ in range(30):
        actions = world.step(keep)
        drained |= {action.pod for action in actions if isinstance(action, Drain)}
        assert not drained & {pod.name for pod in world.given_out()}
    assert len(drained) == high - low
