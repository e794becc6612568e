"""The logs of a cluster's pods as one: what is about one person, device or channel, or everything."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable

import msgspec
from msgspec import Struct

from chatclient.cli.kubeapi import Kube, KubeRefused, Object, pods
from chatclient.cli.kubelook import is_running
from chatoperator.manifests.names import LABEL_CLUSTER

ATTEND_S = 1.0
"""How often is looked for pods that are new."""


class Line(Struct, frozen=True, order=True):
    """A line of a pod's log. `at`: as the API server notes it, RFC 3339."""

    at: str
    pod: str
    text: str


async def past(kube: Kube, found: Iterable[Object], of: str, since_s: int) -> list[Line]:
    """What the pods of one cluster said, in the order of time; a pod whose log cannot be read has none."""

    async def of_pod(one: Object) -> list[Line]:
        try:
            return [
                line async for line in _lines(kube, one, {"sinceSeconds": str(since_s)}) if is_about(line, of)
            ]
        except KubeRefused:
            return []

    told = await asyncio.gather(*(of_pod(one) for one in found))
    return list(heapq.merge(*told))


async def coming(kube: Kube, cluster: str, of: str) -> AsyncIterator[Line]:
    """What they say from now on, those that start later, too. Raises KubeRefused."""
    ears = _Ears(kube, of)
    attending = asyncio.create_task(ears.attend(cluster))
    try:
        while True:
            line = asyncio.create_task(ears.heard.get())
            done, _ = await asyncio.wait({line, attending}, return_when=asyncio.FIRST_COMPLETED)
            if attending in done:
                line.cancel()
                attending.result()
            yield line.result()
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


class _Ears:
    """Listens to every pod of a cluster."""

    def __init__(self, kube: Kube, of: str) -> None:
        self._kube, self._of = kube, of
        self.heard: asyncio.Queue[Line] = asyncio.Queue(1000)
        self._last: dict[str, str] = {}
        """By pod, the time of its last line."""

    async def attend(self, cluster: str) -> None:
        """Until it is cancelled. Raises KubeRefused."""
        listening: dict[str, asyncio.Task[None]] = {}
        begin = {"sinceSeconds": "1"}  # those that start later: from their beginning
        try:
            while True:
                for one in await self._kube.items(pods(self._kube.namespace), of_cluster(cluster)):
                    name = one["metadata"]["name"]
                    is_new = name not in listening
                    if is_new or (listening[name].done() and is_running(one)):
                        listening[name] = asyncio.create_task(self._listen(one, begin if is_new else {}))
                begin = {}
                await asyncio.sleep(ATTEND_S)
        finally:
            for task in listening.values():
                task.cancel()
            await asyncio.gather(*listening.values(), return_exceptions=True)

    async def _listen(self, one: Object, begin: dict[str, str]) -> None:
        """A log that broke off goes on behind its last line."""
        name = one["metadata"]["name"]
        last = self._last.get(name, "")
        since = {"sinceTime": last} if last else begin
        try:
            async for line in _lines(self._kube, one, {"follow": "true", **since}):
                if line.at > last:
                    self._last[name] = line.at
                    if is_about(line, self._of):
                        await self.heard.put(line)
        except KubeRefused:
            pass  # it is gone, or has not started yet: the next round sees


def of_cluster(name: str) -> dict[str, str]:
    """Selects the pods of a cluster."""
    return {"labelSelector": f"{LABEL_CLUSTER}={name}"}


async def _lines(kube: Kube, one: Object, query: dict[str, str]) -> AsyncIterator[Line]:
    meta = one["metadata"]
    path = pods(meta["namespace"], meta["name"], "log")
    async for raw in kube.lines(path, {"timestamps": "true", **query}):
        at, _, text = raw.partition(" ")
        yield Line(at, meta["name"], text)


def is_about(line: Line, of: str) -> bool:
    """Whether a field of it is that id, or holds it as one of several. "": every line."""
    if not of or of not in line.text:
        return not of
    try:
        fields = msgspec.json.decode(line.text)
    except msgspec.DecodeError:
        return True
    return not isinstance(fields, dict) or any(_holds(value, of) for value in fields.values())


def _holds(value: object, of: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(inner, of) for inner in (*value, *value.values()))
    if isinstance(value, list):
        return any(_holds(inner, of) for inner in value)
    return (
        isinstance(value, str) and of in value.replace("/", " ").replace(",", " ").replace("?", " ").split()
    )


def shown(line: Line) -> str:
    """For a person: the time, the pod, what happened, and the rest of the fields."""
    try:
        fields = msgspec.json.decode(line.text)
    except msgspec.DecodeError:
        fields = None
    if not isinstance(fields, dict) or "event" not in fields:
        return f"{line.at[11:23]}  {line.pod}  {line.text}"
    rest = "  ".join(f"{key}={value}" for key, value in fields.items() if key not in _KNOWN)
    return f"{line.at[11:23]}  {line.pod}  {fields['event']}  {rest}".rstrip()


_KNOWN = {"at", "event", "pod", "service", "logger", "level"}
