"""`kubectl chat explain`: the same order as the operator's, with the rule that decided."""

from __future__ import annotations

import msgspec
import pytest

from chatclient.cli.common import Fail
from chatclient.cli.kubeexplain import explain
from chatclient.cli.kubelook import Look, Numbers, PodLook, Told
from chatoperator.manifests.names import CHAT, CONDEMNED, LABEL_COMPONENT, LABEL_REVISION
from chatoperator.resource_status import ChatPodsStatus, Phase, PodsStatus, RevisionStatus, Status

NOW = 1_769_860_800.0
STATUS = Status(
    observed_generation=1,
    phase=Phase.RUNNING,
    conditions=[],
    chat_pods=ChatPodsStatus(),
    api_pods=PodsStatus(),
    worker=PodsStatus(),
    revisions=[RevisionStatus("aa", current=True, ready=2), RevisionStatus("bb", ready=1)],
    selector="",
    url="",
    version="",
)


def node_in(zone: str) -> dict[str, object]:
    """As the API server has it, and well."""
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]
    labels = {"topology.kubernetes.io/zone": zone}
    return {"metadata": {"name": zone, "labels": labels}, "spec": {}, "status": {"conditions": conditions}}


class Pods:
    """A cluster with the pods that a test adds."""

    def __init__(self) -> None:
        self._looks: list[PodLook] = []
        self._raw: dict[str, tuple[dict[str, object], dict[str, object] | None]] = {}

    def add(
        self,
        name: str,
        connections: int | None = 0,
        *,
        revision: str = "aa",
        ready: bool = True,
        made: str = "2026-01-31T11:00:00Z",
        condemned: bool = False,
        delivers: bool | None = True,
        zone: str = "",
    ) -> None:
        state = "ready" if ready else "not ready"
        numbers = None if connections is None else Numbers(state=state, connections=connections)
        self._looks.append(
            PodLook(
                name=name,
                component=CHAT,
                state=state,
                node="node-1",
                age_s=60,
                revision=revision,
                condemned=condemned,
                numbers=numbers,
                delivers=delivers,
            )
        )
        conditions = [
            {"type": "Ready", "status": str(ready), "lastTransitionTime": made},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": made},
        ]
        self._raw[name] = (
            {
                "metadata": {
                    "name": name,
                    "creationTimestamp": made,
                    "labels": {LABEL_COMPONENT: CHAT, LABEL_REVISION: revision},
                    "annotations": {CONDEMNED: made} if condemned else {},
                },
                "spec": {"nodeName": "node-1"},
                "status": {"phase": "Running", "conditions": conditions},
            },
            node_in(zone) if zone else None,
        )

    def look(self, told: list[Told] | None = None) -> Look:
        return Look(
            name="talk",
            namespace="chat",
            generation=1,
            status=STATUS,
            pods=self._looks,
            told=told or [],
            resource={},
            raw=self._raw,
        )


@pytest.fixture
def pods() -> Pods:
    return Pods()


def test_the_pod_with_the_fewest_connections_goes_first(pods: Pods) -> None:
    pods.add("one", 30)
    pods.add("two", 10)
    pods.add("three", 20)
    found = explain(pods.look(), "three", NOW)
    assert found.order == ["two", "three", "one"]
    assert found.place == 2
    assert found.because == [
        "two goes before: fewer connections (10 and 20)",
        "before one: fewer connections (20 and 30)",
    ]


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        ({"ready": False}, "it is not ready"),
        ({"revision": "bb"}, "it is of an old revision"),
        ({"condemned": True}, "it is to go anyway"),
        ({"made": "2026-01-31T11:30:00Z"}, "it is younger"),
    ],
)
def test_the_rule_that_sets_two_pods_off_is_named(pods: Pods, differs: dict[str, object], why: str) -> None:
    pods.add("one", 10)
    pods.add("two", 10, **differs)  # type: ignore[arg-type]
    assert explain(pods.look(), "two", NOW).because == [f"before one: {why}"]


def test_the_zone_with_the_most_pods_gives_one_first(pods: Pods) -> None:
    for name, zone in (("one", "a"), ("two", "b"), ("three", "b")):
        pods.add(name, 5, zone=zone)
    found = explain(pods.look(), "two", NOW)
    assert found.order[0] in ("two", "three")
    first = explain(pods.look(), found.order[0], NOW)
    assert first.because in (
        ["before one: its zone b has more pods (2 and 1)"],
        ["before two: by name: nothing else sets them off"],
    )


def test_on_a_node_that_is_well_a_pod_stays(pods: Pods) -> None:
    pods.add("one", 5, zone="a")
    pods.add("two", 5, zone="b")
    assert explain(pods.look(), "one", NOW).seats


def test_a_pod_that_does_not_tell_its_connections_counts_as_busy(pods: Pods) -> None:
    pods.add("one", None)
    pods.add("two", 500)
    found = explain(pods.look(), "two", NOW)
    assert found.because == ["before one: the other does not tell its connections, and counts as busy"]


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        ({}, "it is ready, of the revision that is served, and stays"),
        ({"ready": False}, "it is not ready"),
        ({"delivers": False}, "messages do not arrive through it"),
        ({"condemned": True}, "it is to go as soon as another is there for it"),
        ({"revision": "bb"}, "it is of revision bb, and pods of aa are ready"),
    ],
)
def test_whether_new_clients_are_sent_there_and_why_not(
    pods: Pods, differs: dict[str, object], why: str
) -> None:
    pods.add("one", 10)
    pods.add("two", 10, **differs)  # type: ignore[arg-type]
    found = explain(pods.look(), "two", NOW)
    assert (found.seats, found.seats_because) == (not differs, why)


def test_what_was_done_to_the_pod_is_told_and_nothing_of_others(pods: Pods) -> None:
    pods.add("talk-1")
    told = [
        Told(1.0, "PodStarted", "Started the chat pod talk-1: too few pods"),
        Told(2.0, "PodStarted", "Started the chat pod talk-12: too few pods"),
    ]
    assert explain(pods.look(told), "talk-1", NOW).told == told[:1]


def test_a_pod_that_is_not_there_is_refused_with_those_that_are(pods: Pods) -> None:
    pods.add("one")
    with pytest.raises(Fail, match="no chat pod two; there are: one"):
        explain(pods.look(), "two", NOW)


def test_it_can_be_told_to_programs(pods: Pods) -> None:
    pods.add("one", 3)
    told = msgspec.json.decode(msgspec.json.encode(explain(pods.look(), "one", NOW)))
    assert told["pod"]["numbers"]["connections"] == 3


def test_a_pod_that_does_not_deliver_goes_before_those_that_serve(pods: Pods) -> None:
    """Ready or not: so the operator counts."""
    pods.add("one", 1)
    pods.add("mute", 30, delivers=False)
    found = explain(pods.look(), "mute", NOW)
    assert found.order == ["mute", "one"]
    assert found.because == ["before one: messages do not arrive through it"]
    pods.add("unready", 5, ready=False)
    assert explain(pods.look(), "one", NOW).order == ["unready", "mute", "one"]
