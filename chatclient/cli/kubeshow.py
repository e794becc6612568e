"""A cluster on Kubernetes as text. Pure: a look in, lines out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chatclient.cli.kubeexplain import Explained
from chatclient.cli.kubelook import Look, Numbers, PodLook, Told
from chatoperator.manifests.names import CHAT
from chatoperator.resource_status import Condition, ConditionType, DeliveryStatus, Truth

BAR = 20
STORY = 8
"""Events that are shown, the newest ones."""
NOWHERE = "no node yet"
WELL = {
    ConditionType.DEGRADED: Truth.FALSE,
    ConditionType.PAUSED: Truth.FALSE,
    ConditionType.PROGRESSING: Truth.FALSE,
}
"""What these should be; the others should be true."""
DOTS = {
    "ready": ("●", "green"),
    "draining": ("◐", "yellow"),
    "stuck": ("✗", "red"),
    "ended": ("✗", "red"),
    "done": ("✓", "green"),
}
OTHER_DOT = ("○", "yellow")


def picture(look: Look, now: float | None = None) -> RenderableType:
    """The whole cluster: what it is, its pods by node, what is not well, and what happened lately."""
    now = time.time() if now is None else now
    parts: list[RenderableType] = [_head(look), Text(), _pods(look)]
    parts += _section("Not as it should be", [_condition(one) for one in amiss(look)])
    parts += _section("Lately", story(look.told[-STORY:], now))
    return Group(*parts)


def _head(look: Look) -> Text:
    status = look.status
    words = Text(f"{look.name} ", "bold")
    words.append(status.phase.value, "green" if status.phase == "Running" else "yellow")
    version = f"  version {status.version}" if status.version else ""
    words.append(f"{version}  namespace {look.namespace}  {status.url}".rstrip() + "\n", "default")
    pods, delivery = status.chat_pods, status.delivery
    facts = [
        f"{pods.ready} of {pods.desired} chat pods ready",
        "connections unknown" if pods.connections is None else f"{pods.connections} connections",
        f"api {status.api_pods.ready}/{status.api_pods.desired}",
        f"worker {status.worker.ready}/{status.worker.desired}",
    ]
    if pods.draining:
        facts.insert(1, f"{pods.draining} draining")
    words.append(", ".join([*facts, _delivery(delivery)]))
    if status.observed_generation != look.generation:
        words.append("\nthe operator has not come to the newest change of the resource yet", "yellow")
    return words


def _delivery(delivery: DeliveryStatus | None) -> str:
    if delivery is None or delivery.p99_ms is None:
        return "delivery not measured"
    return f"delivery p50 {delivery.p50_ms:.0f} ms, p99 {delivery.p99_ms:.0f} ms, {delivery.gaps} missing"


def _place(pod: PodLook) -> tuple[bool, str, bool, str, str]:
    return (not pod.node, pod.node, pod.component != CHAT, pod.component, pod.name)


def _pods(look: Look) -> Table:
    """By node."""
    most = max((pod.numbers.connections for pod in look.chat_pods if pod.numbers is not None), default=0)
    current = {one.revision for one in look.status.revisions if one.current}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for node, pods in groupby(sorted(look.pods, key=_place), key=lambda pod: pod.node):
        zone = next((f" ({pod.zone})" for pod in look.pods if pod.node == node and pod.zone), "")
        table.add_row(Text(f"{node or NOWHERE}{zone}", "bold"))
        for pod in pods:
            dot, color = DOTS.get(pod.state, OTHER_DOT)
            old = "  old revision" if pod.revision and current and pod.revision not in current else ""
            table.add_row(
                Text.assemble("  ", (dot, color), f" {pod.name}"),
                pod.state if pod.draining_s is None else f"{pod.state} for {age(pod.draining_s)}",
                _bar(pod, most),
                age(pod.age_s),
                Text(f"{pod.why}{old}".strip(), "yellow"),
            )
    return table


def _bar(pod: PodLook, most: int) -> str:
    """Its connections, beside those of the fullest pod."""
    if pod.component != CHAT:
        return ""
    if pod.numbers is None:
        return "?"
    count = pod.numbers.connections
    return f"{count:>5} {'█' * round(BAR * count / most) if most else ''}"


def amiss(look: Look) -> list[Condition]:
    """The conditions that are not as they should be."""
    return [one for one in look.status.conditions if one.status is not WELL.get(one.type, Truth.TRUE)]


def _condition(one: Condition) -> Text:
    color = "yellow" if one.type is ConditionType.PROGRESSING or one.status is Truth.UNKNOWN else "red"
    return Text.assemble((f"{one.type} {one.status}", color), f" {one.reason}: {one.message}")


def story(told: Iterable[Told], now: float) -> list[Text]:
    """Events as lines."""
    return [
        Text.assemble(f"{age(now - one.at):>5} ago  ", (one.text, "yellow" if one.warning else "default"))
        for one in told
    ]


def _section(title: str, lines: Sequence[Text]) -> list[RenderableType]:
    return [Text(f"\n{title}", "bold"), *(Text("  ").append_text(line) for line in lines)] if lines else []


def overview(looks: Iterable[Look]) -> Table:
    """Many clusters, a line each."""
    table = _table("namespace", "name", "phase", ">ready", ">connections", ">draining", "version")
    for look in looks:
        pods = look.status.chat_pods
        table.add_row(
            look.namespace,
            look.name,
            look.status.phase.value,
            f"{pods.ready}/{pods.desired}",
            "?" if pods.connections is None else str(pods.connections),
            str(pods.draining),
            look.status.version,
        )
    return table


def busy(before: Look, after: Look, seconds: float) -> Table:
    """Chat pods, the fullest first, with what passed in the time between two looks."""
    columns = (">connections", ">people", ">sent/s", ">delivered/s", ">CPU", ">MiB", ">p99 ms")
    table = _table("pod", "state", *columns)
    then = {pod.name: pod.numbers for pod in before.chat_pods}
    for pod in sorted(after.chat_pods, key=lambda pod: (-(pod.numbers or Numbers()).connections, pod.name)):
        own, old = pod.numbers, then.get(pod.name)
        if own is None:
            table.add_row(pod.name, pod.state, *("?" for _ in columns))
            continue
        passed = rates(old, own, seconds) if old is not None else None
        table.add_row(
            pod.name,
            pod.state,
            str(own.connections),
            str(own.users),
            *(("?",) * 3 if passed is None else (f"{passed[0]:.1f}", f"{passed[1]:.1f}", f"{passed[2]:.0%}")),
            str(round(own.rss_kib / 1024)),
            "?" if pod.p99_ms is None else f"{pod.p99_ms:.0f}",
        )
    return table


def rated(before: Look, after: Look, seconds: float) -> list[dict[str, object]]:
    """The same for programs; null is not known."""
    then = {pod.name: pod.numbers for pod in before.chat_pods}
    rows: list[dict[str, object]] = []
    for pod in after.chat_pods:
        own, old = pod.numbers, then.get(pod.name)
        passed = rates(old, own, seconds) if own is not None and old is not None else (None, None, None)
        rows.append(
            {
                "pod": pod.name,
                "state": pod.state,
                "connections": None if own is None else own.connections,
                "users": None if own is None else own.users,
                "messages_in_per_s": passed[0],
                "deliveries_out_per_s": passed[1],
                "cpu": passed[2],
                "rss_kib": None if own is None else own.rss_kib,
                "p99_ms": pod.p99_ms,
            }
        )
    return rows


def explanation(found: Explained) -> RenderableType:
    """What `explain` found."""
    pod = found.pod
    count = "connections unknown" if pod.numbers is None else f"{pod.numbers.connections} connections"
    where = f" on {pod.node}" if pod.node else ""
    facts = [pod.state, count, f"revision {pod.revision}", f"{age(pod.age_s)} old"]
    lines = [Text.assemble((pod.name, "bold"), f"{where}: {', '.join(facts)}")]
    if pod.why:
        lines.append(Text(f"  {pod.why}", "yellow"))
    lines.append(Text.assemble("new clients    ", ("yes", "green") if found.seats else ("no", "yellow")))
    lines[-1].append(f": {found.seats_because}")
    if found.place is not None:
        lines.append(Text(f"scale-down     {_nth(found.place)} to go of {len(found.order)}"))
        lines += [Text(f"               {because}") for because in found.because]
    return Group(*lines, *_section("What was done to it", story(found.told, time.time())))


def _nth(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")


def rates(old: Numbers, new: Numbers, seconds: float) -> tuple[float, float, float]:
    """Messages in, deliveries out, and seconds of CPU, each per second."""
    return (
        (new.messages_in - old.messages_in) / seconds,
        (new.deliveries_out - old.deliveries_out) / seconds,
        (new.cpu_s - old.cpu_s) / seconds,
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(
            name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=name == "pod"
        )
    return table


def age(seconds: float) -> str:
    """A short time, as kubectl shows it."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
