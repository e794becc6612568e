"""Ranking pods for seats, by example and by property."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chatkernel.discovery import rank
from chatkernel.registry import PodEntry, PodState, Policy, Snapshot

NOW = 1_000_000


def pod(
    name: str,
    connections: int = 0,
    *,
    region: str = "here",
    revision: str = "r1",
    state: PodState = PodState.READY,
    lease: int = NOW + 1,
) -> PodEntry:
    return PodEntry(name, "1", f"ws://{name}", region, revision, state, connections, 100, 0, lease)


def snapshot(*entries: PodEntry, policy: Policy | None = None) -> Snapshot:
    return Snapshot(list(entries), [], policy or Policy(), NOW)


def names(found: list[PodEntry]) -> list[str]:
    return [entry.name for entry in found]


def test_the_emptiest_pod_of_the_region_comes_first_and_other_regions_last() -> None:
    found = rank(snapshot(pod("a", 50), pod("b", 10), pod("far", 0, region="there")), "here", {})
    assert names(found) == ["b", "a", "far"]


def test_seats_given_out_a_moment_ago_count() -> None:
    found = rank(snapshot(pod("a", 0), pod("b", 5)), "here", {"a": 10.0})
    assert names(found) == ["b", "a"]


def test_equal_pods_are_in_order_of_name() -> None:
    assert names(rank(snapshot(pod("b"), pod("a")), "here", {})) == ["a", "b"]


def test_a_thousand_clients_at_once_are_spread_evenly() -> None:
    seen = snapshot(*[pod(f"p{i}") for i in range(20)])
    recent: dict[str, float] = {}
    for _ in range(1_000):
        best = rank(seen, "here", recent)[0]
        recent[best.name] = recent.get(best.name, 0.0) + 1
    assert set(recent.values()) == {50.0}


ENTRIES = st.lists(
    st.builds(
        lambda name, connections, region, revision, state, lease: pod(
            name, connections, region=region, revision=revision, state=state, lease=lease
        ),
        st.sampled_from([f"p{i}" for i in range(8)]),
        st.integers(0, 120),
        st.sampled_from(["here", "there"]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(list(PodState)),
        st.integers(NOW - 2, NOW + 2),
    ),
    max_size=8,
    unique_by=lambda entry: entry.name,
)
POLICIES = st.builds(
    Policy, st.sampled_from(["", "r1", "r2"]), st.lists(st.sampled_from(["p0", "p1", "p2", "gone"]))
)
RECENT = st.dictionaries(st.sampled_from([f"p{i}" for i in range(8)]), st.floats(0, 150))


@settings(max_examples=60, deadline=None)
@given(ENTRIES, POLICIES, RECENT)
def test_no_draining_dead_excluded_outgoing_or_full_pod_is_ever_given_out(
    entries: list[PodEntry], policy: Policy, recent: dict[str, float]
) -> None:
    found = rank(snapshot(*entries, policy=policy), "here", recent)
    given = {entry.name for entry in found}
    for entry in entries:
        fit = (
            entry.state is PodState.READY
            and entry.lease_until > NOW
            and entry.name not in policy.excluded
            and policy.serving_revision in ("", entry.revision)
            and entry.connections + recent.get(entry.name, 0) < entry.capacity
        )
        assert (entry.name in given) == fit
    keys = [
        (entry.region != "here", (entry.connections + recent.get(entry.name, 0)) / entry.capacity)
        for entry in found
    ]
    assert keys == sorted(keys)
