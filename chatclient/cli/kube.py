"""`kubectl chat`: look at a cluster on Kubernetes, and tell the operator what to do. Also `chatctl kube`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

if TYPE_CHECKING:
    from chatclient.cli.kubeapi import Kube

NAMESPACE = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace. [default: that of the kubeconfig's context]")
]
CONTEXT = Annotated[str, typer.Option(help="A context of the kubeconfig. [default: the current one]")]
KUBECONFIG = Annotated[str, typer.Option(envvar="KUBECONFIG", help="The kubeconfig.", show_default=False)]
JSON = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
CLUSTER = Annotated[
    str | None,
    typer.Argument(help="A ChatCluster. [default: the only one in the namespace]", show_default=False),
]
POD = Annotated[str, typer.Argument(help="A chat pod's name, as `status` shows it")]

Work = Callable[["Kube"], Awaitable[int]]
"""What a command does; its exit code."""


def make_app(name: str) -> typer.Typer:
    """`name`: how a person calls it."""
    app = typer.Typer(
        name=name,
        help="Look at chat clusters on Kubernetes, and tell the operator what to do.\n\n"
        "Everything goes through your kubeconfig, with your rights. Numbers of single pods need `get` on "
        "`pods/proxy`, and are shown as ? without.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (status, top, explain, logs, drain, undrain, rebalance, drill):
        app.command()(command)
    return app


def main() -> None:
    """The console script `kubectl-chat`, which kubectl finds as `kubectl chat`."""
    make_app("kubectl chat")()


def status(
    cluster: CLUSTER = None,
    namespace: NAMESPACE = "",
    *,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="All clusters, a line each.")
    ] = False,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """A picture of a cluster: its pods by node with their connections, what is not well, and what happened lately."""

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubelook import all_of, look
        from chatclient.cli.kubeshow import overview, picture

        if everywhere:
            looks = await all_of(kube)
            _tell(as_json, [_plain(one) for one in looks], lambda: overview(looks))
        else:
            one = await look(kube, cluster)
            _tell(as_json, _plain(one), lambda: picture(one))
        return 0

    _run(work, kubeconfig, context, namespace)


def top(
    cluster: CLUSTER = None,
    namespace: NAMESPACE = "",
    *,
    every: Annotated[float, typer.Option(min=0, help="Again after so many seconds; 0: once.")] = 0.0,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """What each chat pod does: connections, messages a second, CPU, memory, and the delivery that the probe sees."""

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubelook import look
        from chatclient.cli.kubeshow import busy, rated

        before, at = await look(kube, cluster), time.monotonic()
        while True:
            await asyncio.sleep(every or 1.0)
            after, now = await look(kube, cluster), time.monotonic()
            old, passed = before, now - at
            _tell(as_json, rated(old, after, passed), lambda: busy(old, after, passed))  # noqa: B023 - called at once
            if not every:
                return 0
            before, at = after, now

    _run(work, kubeconfig, context, namespace)


def explain(
    pod: POD,
    namespace: NAMESPACE = "",
    *,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """Why a chat pod is given clients or is not, when it would go at a scale-down, and what was done to it and why.

    By the operator's own rules: first goes who is not ready, then who drains already, who is of an old revision or
    was asked to go, who has the fewest connections, who is in the zone with the most pods, and who is youngest.
    """

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubeexplain import explain as explained
        from chatclient.cli.kubelook import cluster_of, look
        from chatclient.cli.kubeshow import explanation

        found = explained(await look(kube, await cluster_of(kube, pod)), pod)
        _tell(as_json, found, lambda: explanation(found))
        return 0

    _run(work, kubeconfig, context, namespace)


def logs(
    cluster: CLUSTER = None,
    namespace: NAMESPACE = "",
    *,
    of: Annotated[str, typer.Option(help="Only what is about this id: of a person, device or channel.")] = "",
    since: Annotated[int, typer.Option(min=1, help="From so many seconds ago.")] = 3600,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what they say from now on.")
    ] = False,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """The logs of all pods of a cluster as one, in the order of time."""

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubeapi import pods
        from chatclient.cli.kubelogs import coming, of_cluster, past, shown
        from chatclient.cli.kubelook import which

        name = (await which(kube, cluster))["metadata"]["name"]
        if follow:
            async for line in coming(kube, name, of):
                typer.echo(_line(line) if as_json else shown(line))
        for line in await past(kube, await kube.items(pods(kube.namespace), of_cluster(name)), of, since):
            typer.echo(_line(line) if as_json else shown(line))
        return 0

    _run(work, kubeconfig, context, namespace)


def drain(
    pod: POD,
    namespace: NAMESPACE = "",
    *,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """Replace a chat pod: another starts, and when that is ready this one moves its clients to others, and goes.

    It notes the wish on the pod (annotation chatcluster.dev/condemned); the operator does the rest.
    """
    _annotate_pod(
        pod, True, f"{pod} will be replaced, and then drained", (kubeconfig, context, namespace), as_json
    )


def undrain(
    pod: POD,
    namespace: NAMESPACE = "",
    *,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """Take `drain` back: a pod that is still there stays, with the clients that it still has."""
    _annotate_pod(
        pod, False, f"{pod} was not asked to go any more", (kubeconfig, context, namespace), as_json
    )


def rebalance(
    cluster: CLUSTER = None,
    namespace: NAMESPACE = "",
    *,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """Have chat pods with more than the average move the excess to others, at the rate of spec.rebalance.

    It happens when all pods are ready and none drains, within two minutes, or not at all.
    """

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubeapi import clusters
        from chatclient.cli.kubelook import which
        from chatclient.cli.kubeshow import rfc3339
        from chatoperator.manifests.names import REBALANCE

        name, at = (await which(kube, cluster))["metadata"]["name"], rfc3339(time.time())
        await kube.patch(clusters(kube.namespace, name), {"metadata": {"annotations": {REBALANCE: at}}})
        _tell(as_json, {"cluster": name, "rebalance": at}, lambda: f"{name} will be rebalanced")
        return 0

    _run(work, kubeconfig, context, namespace)


def drill(
    cluster: CLUSTER = None,
    namespace: NAMESPACE = "",
    *,
    users: Annotated[int, typer.Option(min=4, help="People.")] = 40,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second.")] = 60.0,
    duration: Annotated[float, typer.Option(min=1, help="Seconds.")] = 20.0,
    kill: Annotated[
        bool, typer.Option("--kill", help="Delete the fullest chat pod without warning meanwhile.")
    ] = False,
    context: CONTEXT = "",
    kubeconfig: KUBECONFIG = "",
    as_json: JSON = False,
) -> None:
    """Have people talk in the cluster, and check that nothing was lost, doubled or out of order.

    It runs in a pod of the cluster's image, and is gone afterwards; the accounts and channels that it made stay.
    Exit code 1 when a promise was broken, 2 when the drill could not be run.
    """

    async def work(kube: Kube) -> int:
        from chatclient.cli.kubedrill import drill as run_drill
        from chatclient.cli.kubelook import look

        told = ["--quick", f"--users={users}", f"--rate={rate:g}", f"--duration={duration:g}"]
        one = await look(kube, cluster)
        return await run_drill(kube, one, [*told, "--json"] if as_json else told, typer.echo, kill)

    _run(work, kubeconfig, context, namespace, fails_with=2)


def _annotate_pod(pod: str, condemned: bool, text: str, where: tuple[str, str, str], as_json: bool) -> None:
    async def work(kube: Kube) -> int:
        from chatclient.cli.kubeapi import pods
        from chatclient.cli.kubelook import cluster_of
        from chatclient.cli.kubeshow import rfc3339
        from chatoperator.manifests.names import CONDEMNED

        await cluster_of(kube, pod)
        value = rfc3339(time.time()) if condemned else None
        await kube.patch(pods(kube.namespace, pod), {"metadata": {"annotations": {CONDEMNED: value}}})
        _tell(as_json, {"pod": pod, "condemned": value}, lambda: text)
        return 0

    _run(work, *where)


def _run(work: Work, kubeconfig: str, context: str, namespace: str, fails_with: int = 1) -> None:
    """The command, connected; everything that can be expected to go wrong is one line."""
    try:
        from chatclient.cli.kubeapi import KubeRefused, reach
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed: pip install 'chatcluster[operator]'", fails_with)
    from chatclient.cli.common import Fail, run

    async def connected() -> int:
        try:
            async with reach(kubeconfig, context, namespace) as kube:
                return await work(kube)
        except KubeRefused as error:
            raise Fail(str(error)) from error

    code = run(connected(), fails_with)
    if code:
        raise typer.Exit(code)


def _tell(as_json: bool, thing: object, shown: Callable[[], Any]) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(thing)).decode())
        return
    from rich.console import Console

    # A file or a pipe has no width of its own: nothing is to be cut off there.
    width = None if sys.stdout.isatty() else 200
    Console(highlight=False, width=width).print(shown())


def _plain(look: Any) -> dict[str, Any]:
    """A look without what Kubernetes says itself."""
    fields: dict[str, Any] = msgspec.to_builtins(look)
    return {key: value for key, value in fields.items() if key not in ("raw", "resource")}


def _line(line: Any) -> str:
    return msgspec.json.encode(line).decode()


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
