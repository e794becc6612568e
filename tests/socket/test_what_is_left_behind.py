"""Nothing of a client is left when it is gone: no room, no route, no watch."""

from __future__ import annotations

from support.cluster import eventually
from support.crew import Crew

from chatkernel.redis_client import execute


async def test_routes_of_a_client_go_with_it(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    (pod, *_) = await some.cluster.ready()
    async with some.cluster.redis() as (redis, keys):

        async def routes() -> set[str]:
            (found,) = await execute(redis, [("SMEMBERS", keys.pod_routes(pod))])
            return {route.decode() for route in found}

        mine = {f"c:{channel}", f"u:{ann.id}", f"w:{bob.id}"}
        socket = await some.socket(ann, pod)
        await socket.ask("presence.watch", user_ids=[bob.id])
        assert mine <= await routes()
        other = await some.socket(ann, pod)
        await other.close()
        assert mine <= await routes()
        await socket.close()

        async def gone() -> bool:
            return not mine & await routes()

        await eventually(gone, 2)

        async def nobody() -> bool:
            statz = await some.cluster.statz(pod)
            return (statz["connections"], statz["users"], statz["channels"]) == (0, 0, 0)

        await eventually(nobody, 2)
