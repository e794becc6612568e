"""The prober on real pods: one that accepts connections and does not deliver is found within 15 s, and it alone."""

from __future__ import annotations

import signal

import pytest
from support.proxy import proxy_to
from support.town import Town

from chatkernel.ids import now_ms

pytestmark = pytest.mark.slow

FOUND_WITHIN_S = 15.0


async def found(town: Town, pod: str) -> None:
    """Within the time, alone, and with the right time of its beginning."""
    began = now_ms()
    report = await town.until(lambda report: bool(town.blamed(report)), FOUND_WITHIN_S)
    assert town.blamed(report) == {pod} and report.unknown == []
    since = report.pods[pod].failing_since
    assert since is not None and began - 3_000 < since < began + 8_000


@pytest.mark.parametrize("fault", ["deaf", "mute"])
async def test_one_to_which_nothing_comes_and_one_that_hands_nothing_on(town: Town, fault: str) -> None:
    await town.settle("chat-1", "chat-2", "chat-3")
    town.fault("chat-2", fault)
    await found(town, "chat-2")
    town.fault("chat-2")
    report = await town.until(lambda report: len(town.well(report)) == 3, 40)
    assert town.blamed(report) == set()


async def test_one_of_two(town: Town) -> None:
    await town.settle("chat-1", "chat-2")
    town.fault("chat-1", "deaf")
    await found(town, "chat-1")


async def test_one_that_does_not_answer_hello(town: Town) -> None:
    await town.settle("chat-1", "chat-2")
    town.fault("chat-2", "stuck")
    report = await town.report()
    assert town.blamed(report) == set()
    # Whoever is connected stays so: only a new connection meets it.
    town.pods["chat-2"].signal(signal.SIGSTOP)
    town.pods["chat-2"].signal(signal.SIGCONT)
    assert town.prober is not None
    town.prober.kill()
    town.start_prober()
    report = await town.until(lambda report: bool(town.blamed(report)), FOUND_WITHIN_S + 10)
    assert town.blamed(report) == {"chat-2"}


async def test_one_that_is_cut_off_from_what_the_others_publish(town: Town) -> None:
    """Its network to Redis loses what Redis sends: it is told nothing, and cannot renew its lease. It goes from the
    registry then; and nobody else is blamed."""
    async with proxy_to(town.ground.valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        await town.settle("chat-1", "chat-2", redis_urls={"chat-2": url})
        proxy.loses_replies = True
        report = await town.until(lambda report: "chat-2" not in town.well(report), FOUND_WITHIN_S)
        assert town.blamed(report) <= {"chat-2"}
        report = await town.until(lambda report: "chat-2" not in report.pods, FOUND_WITHIN_S)
        assert town.well(report) == {"chat-1"}
