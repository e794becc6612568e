"""Who lost a connection because its pod went on purpose without a word, and who for another reason."""

from __future__ import annotations

import pytest

from chatclient.drill.checker import was_not_asked
from chatclient.drill.histories import DeviceHistory, DeviceRecorder, Latencies, Loss
from chatclient.listener import Down, Up
from chatkernel.errors import Close

SEATS = [(10.0, "chat-1")]
"""A drain of chat-1 at 10 s; it is over at 20 s."""


@pytest.mark.parametrize("code", [Close.MIGRATED, Close.GOING_AWAY, Close.RESTARTING])
def test_a_pod_that_goes_without_a_word_is_caught(code: Close) -> None:
    assert was_not_asked([Loss(11.0, "chat-1", code, told=False)], SEATS, 20.0)


def test_each_step_of_a_scaling_is_looked_at() -> None:
    seats = [(5.0, "chat-0"), (10.0, "chat-1")]
    assert was_not_asked([Loss(11.0, "chat-1", Close.MIGRATED, told=False)], seats, 20.0)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([], id="nothing lost"),
        pytest.param([Loss(11.0, "chat-1", Close.MIGRATED, told=True)], id="asked, and did not get away"),
        pytest.param([Loss(9.0, "chat-1", Close.MIGRATED, told=False)], id="before the drain"),
        pytest.param([Loss(21.0, "chat-1", Close.MIGRATED, told=False)], id="after the drain"),
        pytest.param([Loss(11.0, "chat-2", Close.MIGRATED, told=False)], id="another pod"),
        pytest.param([Loss(11.0, "chat-1", 1006, told=False)], id="killed pod or cut connection"),
        pytest.param([Loss(11.0, "chat-1", Close.LEASE_LOST, told=False)], id="frozen pod"),
        pytest.param([Loss(11.0, "chat-1", Close.SLOW_CONSUMER, told=False)], id="slow reader"),
    ],
)
def test_a_drain_is_not_blamed_for_anything_else(losses: list[Loss]) -> None:
    assert not was_not_asked(losses, SEATS, 20.0)


def test_who_was_on_no_pod_that_went_is_not_looked_at() -> None:
    assert not was_not_asked([Loss(11.0, "chat-1", Close.MIGRATED, told=False)], [], 20.0)


def test_a_recorder_notes_each_loss_and_whether_its_pod_had_asked() -> None:
    recorder = DeviceRecorder(DeviceHistory("u_ann", "d1"), Latencies(lambda: 3.0), lambda: 3.0)
    asked = True
    recorder.is_told = lambda: asked
    recorder.on_state(Down("chat-1", 4010))
    asked = False
    recorder.on_state(Up("chat-2", "chat-1", 0.1, False, 0))
    recorder.on_state(Down("chat-2", 4010))
    assert recorder.losses == [Loss(3.0, "chat-1", 4010, True), Loss(3.0, "chat-2", 4010, False)]
