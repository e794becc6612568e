"""A drill inside of the cluster: a pod of the cluster's own image sends and checks, and what it prints comes here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from chatclient.cli.common import Fail
from chatclient.cli.kubeapi import Kube, KubeRefused, Object, pods
from chatclient.cli.kubelook import Look, component_of, is_running
from chatoperator.manifests.names import API, of

START_S = 120.0
LOOK_S = 0.5
FOLDER = "/tmp/drill"  # noqa: S108 - in a pod of its own, where all else is read-only
GONE_WRONG = 2
"""Exit code when the drill could not be run, as `chatctl drill` has it."""


async def drill(kube: Kube, look: Look, arguments: list[str], tell: Callable[[str], None], kill: bool) -> int:
    """Its exit code: 0 all promises kept, 1 one broken, 2 could not be run. The pod is gone afterwards. `kill`: one
    chat pod is deleted without warning when people are talking. Raises Fail and KubeRefused."""
    async with _pod(kube, _manifest(look, arguments)) as name:
        await _started(kube, name)
        killing = asyncio.create_task(_kill(kube, look, tell)) if kill else None
        async for line in kube.lines(pods(kube.namespace, name, "log"), {"follow": "true"}):
            tell(line)
        if killing is not None:
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing
        return await _exit_code(kube, name)


KILL_AFTER_S = 8.0
"""Long enough for people to have come and to be talking in the shortest drill."""


async def _kill(kube: Kube, look: Look, tell: Callable[[str], None]) -> None:
    await asyncio.sleep(KILL_AFTER_S)
    fullest = max(
        (pod for pod in look.chat_pods if pod.state == "ready"),
        key=lambda pod: (pod.numbers.connections if pod.numbers is not None else 0, pod.name),
        default=None,
    )
    if fullest is not None:
        await kube.delete(pods(kube.namespace, fullest.name), grace_s=0)
        tell(f"deleted {fullest.name} without warning")


def _manifest(look: Look, arguments: list[str]) -> Object:
    """Of the image, and with the pull secrets, of the API pods: what runs there can be had."""
    one = next(
        (raw for raw, _ in look.raw.values() if component_of(raw) == API and is_running(raw)),
        None,
    )
    if one is None:
        raise Fail(f"no API pod of {look.name} runs: nobody could come")
    spec, container = one["spec"], one["spec"]["containers"][0]
    url = f"http://{of(look.name, API)}.{look.namespace}.svc"
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    ours: dict[str, Any] = {
        "name": "drill",
        "image": container["image"],
        "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
        "command": ["chatctl", "drill", f"--url={url}", f"--data={FOLDER}", *arguments],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": restricted,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{look.name}-drill-{secrets.token_hex(3)}",
            "namespace": look.namespace,
            "labels": {
                "app.kubernetes.io/name": "chatcluster-drill",
                "app.kubernetes.io/instance": look.name,
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 5,
            "imagePullSecrets": spec.get("imagePullSecrets") or [],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65_532,
                "runAsGroup": 65_532,
                "fsGroup": 65_532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [ours],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


@asynccontextmanager
async def _pod(kube: Kube, manifest: Object) -> AsyncIterator[str]:
    """Gone afterwards, also when the drill was interrupted."""
    name = manifest["metadata"]["name"]
    await kube.create(pods(kube.namespace), manifest)
    try:
        yield name
    finally:
        with suppress(KubeRefused):
            await asyncio.shield(kube.delete(pods(kube.namespace, name), grace_s=1))


async def _started(kube: Kube, name: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            while True:
                status = (await kube.get(pods(kube.namespace, name))).get("status") or {}
                if status.get("phase") in ("Running", "Succeeded", "Failed"):
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise Fail(
            f"the drill's pod {name} did not start within {START_S:.0f} s: kubectl describe pod {name}"
        ) from None


async def _exit_code(kube: Kube, name: str) -> int:
    """Once the log has ended, so has the process; its node says so a moment later."""
    while True:
        status = (await kube.get(pods(kube.namespace, name))).get("status") or {}
        for container in status.get("containerStatuses") or []:
            ended = (container.get("state") or {}).get("terminated")
            if ended:
                return int(ended.get("exitCode", GONE_WRONG))
        if status.get("phase") == "Failed":
            return GONE_WRONG
        await asyncio.sleep(LOOK_S)
