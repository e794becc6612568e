"""Who says nothing after connecting is closed, and may come back; who says hello in time is not."""

from __future__ import annotations

import time

import pytest
from support.crew import Crew
from support.rawsocket import seat

from chatkernel.errors import RESUMABLE, Close
from chatkernel.settings import ServiceSettings

TIMEOUT_S = ServiceSettings(cluster="", revision="", secret_file="").hello_timeout_s


@pytest.mark.slow
async def test_no_hello_closes_the_socket(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    taken = await seat(ann)
    began = time.monotonic()
    silent = await some.raw(taken["url"])
    others = await seat(bob)
    talker = await some.raw(others["url"])
    assert (await talker.ask("hello", ticket=others["ticket"]))["type"] == "ack"
    assert await silent.closed(TIMEOUT_S + 5) == Close.HELLO_TIMEOUT and Close.HELLO_TIMEOUT in RESUMABLE
    assert time.monotonic() - began >= TIMEOUT_S - 0.5
    assert silent.frames == [] and talker.closed_with != Close.HELLO_TIMEOUT
