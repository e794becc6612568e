"""Promise 7: discovery never hands out a pod that is draining, dead or of an outgoing revision."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from breaks import Breaks
from support.api_calls import Person
from support.cluster import Cluster, eventually
from support.crew import Crew, crew

DEATH_IS_KNOWN_S = 1.0
"""A killed process is noticed by its parent, which takes it out of the registry."""
OUTGOING_IS_KNOWN_S = 1.5
"""From the first ready pod of a new revision on nobody is sent to the others: the operator looks twice a second, and
so do the API pods."""


@dataclass
class Watch:
    """When each pod began to go (or was dead), and every seat that was asked for: when, and on which pods."""

    gone_at: dict[str, float] = field(default_factory=dict)
    outgoing: set[str] = field(default_factory=set)
    """Pods of the old revision, while a new one is rolled out."""
    ready_at: dict[str, float] = field(default_factory=dict)
    """When each pod was last seen to be ready."""
    seats: list[tuple[float, list[str]]] = field(default_factory=list)

    async def ask(self, person: Person) -> None:
        asked_at = time.monotonic()
        response = await person.ask("POST", "/v1/seats", {})
        if response.status_code == 201 or response.status_code == 200:
            seats = response.json()
            offered = [seats["best"], *seats["alternatives"]]
            self.seats.append((asked_at, [seat["pod"] for seat in offered]))

    async def look(self, some: Crew) -> None:
        """Whoever says of itself that it drains is going from now on, and all of the old revision once there is a
        ready pod of the new one."""
        pods, now = await some.cluster.pods(), time.monotonic()
        ready = {name for name, pod in pods.items() if pod["phase"] == "ready"}
        self.ready_at.update(dict.fromkeys(ready, now))
        for name, pod in pods.items():
            if pod["phase"] in ("draining", "stopping"):
                self.gone_at[name] = min(now, self.gone_at.get(name, now))
        if self.outgoing and ready - self.outgoing:
            for name in self.outgoing:
                self.gone_at.setdefault(name, now + OUTGOING_IS_KNOWN_S)

    def wrong(self) -> list[tuple[str, float]]:
        """Seats on pods that were going when they were asked for, and for how long they had been."""
        return [
            (pod, asked_at - self.gone_at[pod])
            for asked_at, pods in self.seats
            for pod in pods
            if asked_at > self.gone_at.get(pod, float("inf"))
        ]


async def ask_for_seats_while(some: Crew, change: Callable[[Watch], Awaitable[None]]) -> Watch:
    watch = Watch()
    (ann,) = await some.people("ann")
    watching = True

    async def ask() -> None:
        while watching:
            await watch.ask(ann)
            await asyncio.sleep(0.005)

    async def look() -> None:
        while watching:
            await watch.look(some)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(ask()), asyncio.create_task(look())]
    try:
        await change(watch)
    finally:
        watching = False
        await asyncio.gather(*tasks)
    return watch


def drain_one(some: Crew) -> Callable[[Watch], Awaitable[None]]:
    """One pod goes by request, with a client that will not leave it for a while."""

    async def change(watch: Watch) -> None:
        pod = (await some.cluster.ready())[0]
        (bob,) = await some.people("bob")
        await some.socket(bob, pod)
        await some.cluster.order("drain", pod=pod)

        async def goes() -> bool:
            return pod in watch.gone_at

        await eventually(goes, 20)
        await asyncio.sleep(0.7)

    return change


def kill_one(some: Crew) -> Callable[[Watch], Awaitable[None]]:
    async def change(watch: Watch) -> None:
        name, pod = sorted((await some.cluster.pods()).items())[0]
        os.kill(pod["pid"], signal.SIGKILL)
        watch.gone_at[name] = time.monotonic() + DEATH_IS_KNOWN_S
        await asyncio.sleep(DEATH_IS_KNOWN_S + 0.7)

    return change


def roll_out(some: Crew) -> Callable[[Watch], Awaitable[None]]:
    """A changed setting makes a new revision: the old pods go one by one."""

    async def change(watch: Watch) -> None:
        old = await some.cluster.ready()
        people = await some.people("bob", "cleo")
        # Who does not leave: while one of the old pods drains for a while, the other one is still ready.
        sockets = [await some.socket(person, pod) for person, pod in zip(people, old, strict=True)]
        some.keep_alive(*sockets)
        watch.outgoing = set(old)
        some.cluster.spec["chatPods"]["env"] = [{"name": "ROLLED", "value": str(time.time())}]
        some.cluster.apply()

        async def left(most: int) -> bool:
            return len(set(old) & set(await some.cluster.pods())) <= most

        await eventually(lambda: left(1), 40)
        for socket in sockets:
            await socket.close()
        await eventually(lambda: left(0), 40)

    return change


def assert_only_pods_that_stay(watch: Watch) -> None:
    assert len(watch.seats) > 20 and watch.gone_at
    assert watch.wrong() == []


@pytest.mark.parametrize("change", [drain_one, kill_one])
async def test_seats_are_only_on_pods_that_stay(
    cluster: Cluster, change: Callable[[Crew], Callable[[Watch], Awaitable[None]]]
) -> None:
    async with crew(cluster) as some:
        assert_only_pods_that_stay(await ask_for_seats_while(some, change(some)))


def ready_while_outgoing(watch: Watch) -> set[str]:
    """Pods that could have been handed out after they must not be."""
    return {pod for pod in watch.outgoing if watch.ready_at[pod] > watch.gone_at[pod] + 0.5}


async def test_seats_are_only_on_pods_that_stay_through_a_rollout(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        watch = await ask_for_seats_while(some, roll_out(some))
    assert ready_while_outgoing(watch), "the rollout was too quick to show anything"
    assert_only_pods_that_stay(watch)


@pytest.mark.slow
async def test_discovery_that_hands_out_the_old_revision_is_caught(
    breakable: Cluster, breaks: Breaks
) -> None:
    async with crew(breakable) as some:
        with breaks.on("hands_out_any_pod"):
            watch = await ask_for_seats_while(some, roll_out(some))
    # Those of a pod that was still ready, and only outgoing.
    wrong = [
        (pod, late_s) for pod, late_s in watch.wrong() if watch.gone_at[pod] + late_s <= watch.ready_at[pod]
    ]
    assert wrong
    with pytest.raises(AssertionError):
        assert_only_pods_that_stay(watch)


async def test_discovery_that_does_not_ask_for_the_state_is_caught(
    breakable: Cluster, breaks: Breaks
) -> None:
    async with crew(breakable) as some:
        with breaks.on("hands_out_any_pod"):
            watch = await ask_for_seats_while(some, drain_one(some))
        assert len(watch.seats) > 20
        with pytest.raises(AssertionError):
            assert_only_pods_that_stay(watch)
