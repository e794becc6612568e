"""`kubectl chat status` and `top`: what a person sees of a cluster."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from chatclient.cli.kubelook import Look, Numbers, PodLook, Told
from chatclient.cli.kubeshow import age, busy, overview, picture, rated
from chatoperator.manifests.names import API, CHAT
from chatoperator.resource_status import (
    ChatPodsStatus,
    Condition,
    ConditionType,
    DeliveryStatus,
    Phase,
    PodsStatus,
    RevisionStatus,
    Status,
    Truth,
)

NOW = 1_700_000_000.0
AT = "2026-01-31T12:00:00Z"


def condition(kind: ConditionType, status: Truth, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=AT)


STATUS = Status(
    observed_generation=3,
    phase=Phase.RUNNING,
    conditions=[
        condition(ConditionType.AVAILABLE, Truth.TRUE, "EnoughReadyPods"),
        condition(ConditionType.PROGRESSING, Truth.FALSE, "AsWanted"),
        condition(ConditionType.DEGRADED, Truth.FALSE, "AllWell"),
        condition(ConditionType.STORAGE_READY, Truth.FALSE, "StoreUnreachable", "the store does not answer"),
    ],
    chat_pods=ChatPodsStatus(desired=2, replicas=3, ready=2, draining=1, connections=34),
    api_pods=PodsStatus(1, 1),
    worker=PodsStatus(1, 1),
    revisions=[RevisionStatus("aa", current=True), RevisionStatus("bb")],
    selector="",
    url="http://talk-api.chat.svc",
    version="1.2.3",
    delivery=DeliveryStatus(p50_ms=3.2, p99_ms=12.4, gaps=0, checked_at=AT),
)


def pod(name: str, connections: int | None = None, **fields: object) -> PodLook:
    numbers = None if connections is None else Numbers(connections=connections, users=connections)
    known: dict[str, object] = {"component": CHAT, "state": "ready", "node": "node-1", "revision": "aa"}
    return PodLook(name=name, age_s=100, **{"numbers": numbers, **known, **fields})  # type: ignore[arg-type]


def look(pods: list[PodLook], told: list[Told] | None = None, generation: int = 3) -> Look:
    return Look(
        name="talk",
        namespace="chat",
        generation=generation,
        status=STATUS,
        pods=pods,
        told=told or [],
        resource={},
        raw={},
    )


def text(shown: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=160, color_system=None).print(shown)
    return out.getvalue()


PODS = [
    pod("talk-chat-aa-1", 30, zone="a"),
    pod("talk-chat-bb-2", 4, state="draining", draining_s=12.0, revision="bb", node="node-2"),
    pod("talk-chat-aa-3", state="pending", node="", why="0/2 nodes are available"),
    pod("talk-api-1", component=API, revision=""),
]


def test_a_picture_has_every_pod_below_its_node_with_its_share_of_connections() -> None:
    lines = [line.rstrip() for line in text(picture(look(PODS), NOW)).splitlines()]
    heads = [line for line in lines if line.startswith(("node-", "no node"))]
    assert heads == ["node-1 (a)", "node-2", "no node yet"]
    full = next(line for line in lines if "talk-chat-aa-1" in line)
    going = next(line for line in lines if "talk-chat-bb-2" in line)
    assert "ready" in full
    assert "30 ████████████████████" in full
    assert "draining for 12s" in going
    assert "old revision" in going
    assert "4 ███" in going
    assert "0/2 nodes are available" in next(line for line in lines if "talk-chat-aa-3" in line)


def test_a_picture_begins_with_how_the_cluster_is() -> None:
    shown = text(picture(look(PODS), NOW))
    assert shown.startswith("talk Running  version 1.2.3  namespace chat  http://talk-api.chat.svc\n")
    assert "2 of 2 chat pods ready, 1 draining, 34 connections" in shown
    assert "delivery p50 3 ms, p99 12 ms, 0 missing" in shown


def test_only_what_is_not_as_it_should_be_is_told_with_its_reason() -> None:
    shown = text(picture(look(PODS), NOW))
    assert "StorageReady False StoreUnreachable: the store does not answer" in shown
    assert "AllWell" not in shown
    assert "EnoughReadyPods" not in shown


def test_what_happened_lately_is_told_newest_last() -> None:
    told = [Told(NOW - 300, "PodStarted", "Started a pod"), Told(NOW - 5, "PutBack", "Put it back", True)]
    lines = text(picture(look(PODS, told), NOW)).splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["5m", "ago", "Started", "a", "pod"],
        ["5s", "ago", "Put", "it", "back"],
    ]


def test_a_change_that_the_operator_has_not_seen_is_said() -> None:
    assert "has not come to the newest change" in text(picture(look(PODS, generation=4), NOW))
    assert "has not come to the newest change" not in text(picture(look(PODS), NOW))


def test_top_puts_the_fullest_pod_first_and_tells_what_passed_in_between() -> None:
    first = look([pod("talk-chat-aa-1", 3), pod("talk-chat-aa-2", 9)])
    then = Numbers(connections=9, users=9, messages_in=20, deliveries_out=300, cpu_s=1.0, rss_kib=51_200)
    second = look([pod("talk-chat-aa-1"), pod("talk-chat-aa-2", numbers=then)])
    rows = [line.split() for line in text(busy(first, second, 2.0)).splitlines()[1:]]
    assert rows == [
        ["talk-chat-aa-2", "ready", "9", "9", "10.0", "150.0", "50%", "50", "?"],
        ["talk-chat-aa-1", "ready", "?", "?", "?", "?", "?", "?", "?"],
    ]
    told = {row["pod"]: row for row in rated(first, second, 2.0)}
    assert told["talk-chat-aa-2"]["deliveries_out_per_s"] == 150.0
    assert told["talk-chat-aa-1"]["connections"] is None


def test_many_clusters_are_a_line_each() -> None:
    assert text(overview([look([])])).splitlines()[1].split() == [
        "chat", "talk", "Running", "2/2", "34", "1", "1.2.3",
    ]  # fmt: skip


def test_a_short_time_is_written_as_kubectl_writes_it() -> None:
    assert [age(seconds) for seconds in (0.4, 119, 120, 7_199, 7_200, 172_800)] == [
        "0s",
        "119s",
        "2m",
        "119m",
        "2h",
        "2d",
    ]
