"""A person's traces: each connection is a line of its pod's log when it comes, and one when it goes."""

from __future__ import annotations

import json

from support.cluster import eventually
from support.crew import Crew


async def test_a_connection_is_logged_with_its_person_and_device(some: Crew) -> None:
    (ann,) = await some.people("ann")
    pod, *_ = await some.cluster.ready()
    socket = await some.socket(ann, pod)
    await socket.connection.close()
    file = some.cluster.data / "logs" / f"{pod}.log"

    async def look() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in file.read_text().splitlines() if ann.device_id in line]
        return lines if len(lines) == 2 else []

    came, gone = await eventually(look)
    assert (came["event"], gone["event"]) == ("client came", "client gone")
    assert came["user_id"] == gone["user_id"] == ann.id
    assert came["session_id"] == gone["session_id"]
    assert gone["code"] == 1000
