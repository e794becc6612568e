"""A quota, a right that is missing, a rule: asked again with back-off, and at once when something else is asked."""

from __future__ import annotations

import pytest

from chatoperator.kube.errors import Forbidden, KubeError, QuotaExceeded, Unreachable
from chatoperator.kube.refusals import AGAIN_MAX_S, Refusals


class Asked:
    """A clock, and an API server that says `answer`."""

    def __init__(self) -> None:
        self.now, self.times = 0.0, list[float]()
        self.answer: KubeError | None = QuotaExceeded("create pods: exceeded quota", 403)
        self.refusals = Refusals(lambda: self.now)

    def ask(self, version: str = "1") -> None:
        with self.refusals("pod", version):
            self.times.append(self.now)
            if self.answer is not None:
                raise self.answer

    def ask_every_second(self, seconds: int) -> None:
        for _ in range(seconds):
            with pytest.raises(QuotaExceeded, match="exceeded quota"):
                self.ask()
            self.now += 1.0


def test_the_same_is_asked_after_1_2_4_8_and_then_15_seconds() -> None:
    asked = Asked()
    asked.ask_every_second(60)
    assert asked.times == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0, 45.0]


def test_what_has_become_another_thing_is_asked_at_once() -> None:
    asked = Asked()
    asked.ask_every_second(20)
    asked.answer = None
    asked.ask("2")
    assert asked.times[-1] == asked.now


def test_after_a_success_it_begins_anew() -> None:
    asked = Asked()
    asked.ask_every_second(20)
    asked.now += AGAIN_MAX_S
    refused, asked.answer = asked.answer, None
    asked.ask()
    asked.answer, before = refused, len(asked.times)
    asked.ask_every_second(2)
    assert len(asked.times) == before + 2


def test_only_refusals_count() -> None:
    asked = Asked()
    asked.answer = Unreachable("no answer")
    for _ in range(3):
        with pytest.raises(Unreachable):
            asked.ask()
    assert len(asked.times) == 3


def test_other_things_do_not_wait() -> None:
    asked = Asked()
    with pytest.raises(QuotaExceeded):
        asked.ask()
    with pytest.raises(Forbidden, match="another"), asked.refusals("another"):
        raise Forbidden("another", 403)
