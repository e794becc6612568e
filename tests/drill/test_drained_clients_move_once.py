"""Whose pod went on purpose is moved once, before a connection is lost; who lost one otherwise is left out."""

from __future__ import annotations

import pytest

from chatclient.drill.histories import DeviceHistory, DeviceRecorder, Latencies, Loss
from chatclient.drill.moves import Breach, Seating, breach_of
from chatclient.listener import Down, Up
from chatkernel.errors import Close

BEGAN, ENDED = 10.0, 20.0
"""Of a drain of chat-1."""


def moved(at_s: float = 11.0, *, pod: str = "chat-1", asked: bool = True) -> tuple[float, Up]:
    return at_s, Up("chat-9", pod, 0.1, asked, 0, "draining")


def judge(losses: list[Loss], ups: list[tuple[float, Up]]) -> Breach | None:
    return breach_of("chat-1", BEGAN, ENDED, losses, ups)


def test_one_move_and_nothing_lost_is_right() -> None:
    assert judge([], [moved()]) is None


@pytest.mark.parametrize("code", [Close.MIGRATED, Close.GOING_AWAY, Close.RESTARTING, 1006])
@pytest.mark.parametrize(("told", "breach"), [(False, Breach.UNTOLD), (True, Breach.CUT_OFF)])
def test_a_connection_lost_before_there_was_another_is_caught(code: int, told: bool, breach: Breach) -> None:
    assert judge([Loss(11.0, "chat-1", code, told)], [moved(11.5, asked=False)]) is breach
    assert judge([Loss(11.0, "chat-1", code, told)], [moved(11.5)]) is breach


@pytest.mark.parametrize(
    "ups",
    [
        pytest.param([], id="never"),
        pytest.param([moved(11.0), moved(12.0)], id="twice"),
        pytest.param([moved(9.0)], id="before the drain"),
        pytest.param([moved(21.0)], id="after the drain"),
        pytest.param([moved(pod="chat-2")], id="from another pod"),
    ],
)
def test_who_did_not_move_exactly_once_is_caught(ups: list[tuple[float, Up]]) -> None:
    assert judge([], ups) is Breach.NOT_ONCE


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(Loss(9.0, "chat-1", Close.MIGRATED, told=False), id="before the drain"),
        pytest.param(Loss(21.0, "chat-1", Close.MIGRATED, told=False), id="after the drain"),
        pytest.param(Loss(11.0, "chat-2", Close.MIGRATED, told=False), id="another pod"),
    ],
)
def test_a_loss_elsewhere_is_not_the_drains(loss: Loss) -> None:
    assert judge([loss], [moved()]) is None


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(Loss(11.0, "chat-1", Close.LEASE_LOST, told=False), id="frozen pod"),
        pytest.param(Loss(11.0, "chat-1", Close.SLOW_CONSUMER, told=True), id="slow reader"),
        pytest.param(Loss(11.0, "chat-1", 1006, told=True, gave_up=True), id="pod did not answer"),
    ],
)
def test_who_lost_the_connection_otherwise_need_not_move(loss: Loss) -> None:
    assert judge([loss], []) is None


def test_only_who_was_on_a_pod_that_went_is_looked_at() -> None:
    seating = Seating(BEGAN, {"a": "chat-1", "b": "chat-2", "c": "chat-1"})
    assert seating.leavers() == {}
    seating.went = {"chat-1", "chat-7"}
    assert seating.leavers() == {"a": "chat-1", "c": "chat-1"}


def test_a_recorder_notes_each_loss_and_how_it_came() -> None:
    recorder = DeviceRecorder(DeviceHistory("u_ann", "d1"), Latencies(lambda: 3.0), lambda: 3.0)
    how = (True, False)
    recorder.told_and_gave_up = lambda: how
    recorder.on_state(Down("chat-1", 4010))
    how = (False, True)
    recorder.on_state(Up("chat-2", "chat-1", 0.1, False, 0))
    recorder.on_state(Down("chat-2", 1006))
    assert recorder.losses == [Loss(3.0, "chat-1", 4010, True, False), Loss(3.0, "chat-2", 1006, False, True)]
