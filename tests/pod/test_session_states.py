"""The session's table of states: what each state does with each frame, and which changes are refused."""

from __future__ import annotations

import asyncio
import gc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.live import live

from chatkernel.errors import Close, Code
from chatkernel.protocol import Hello, Limits, Ping, Send, encode_json, encode_msgpack
from chatpod.meter import OTHERS_PER_SEND, Meters
from chatpod.session import MALFORMED_MAX, NEXT, Refuse, Reject, Session, State

HELLO, PING = Hello("h", "ticket"), Ping("p")
SEND = Send("s", "g_1", "k", "hello")
WAY = [State.GREETING, State.OPENING, State.LIVE, State.CLOSED]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def session_in(state: State, limits: Limits | None = None, binary: bool = False) -> Session:
    session = Session(live(limits), binary, Clock())
    for step in WAY[1 : WAY.index(state) + 1]:
        session.become(step)
    return session


@pytest.mark.parametrize(
    ("state", "frame", "outcome"),
    [
        (State.GREETING, HELLO, HELLO),
        (State.GREETING, PING, (Code.UNAUTHENTICATED, Close.POLICY)),
        (State.GREETING, SEND, (Code.UNAUTHENTICATED, Close.POLICY)),
        (State.OPENING, HELLO, (Code.CONFLICT, None)),
        (State.OPENING, PING, PING),
        (State.OPENING, SEND, (Code.CONFLICT, None)),
        (State.LIVE, HELLO, (Code.CONFLICT, None)),
        (State.LIVE, PING, PING),
        (State.LIVE, SEND, SEND),
        (State.CLOSED, HELLO, None),
        (State.CLOSED, PING, None),
        (State.CLOSED, SEND, None),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_the_table(state: State, frame: msgspec.Struct, outcome: object, binary: bool) -> None:
    session = session_in(state, binary=binary)
    data = encode_msgpack(frame) if binary else encode_json(frame)
    found = session.receive(data, not binary)
    if isinstance(outcome, tuple):
        code, close = outcome
        assert isinstance(found, Refuse | Reject) and found.error.code == code
        assert found.error.id == frame.id  # type: ignore[attr-defined]
        assert (found.close if isinstance(found, Reject) else None) == close
    else:
        assert found == outcome


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("to", list(State))
def test_only_the_changes_of_the_table_are_made(state: State, to: State) -> None:
    session = session_in(state)
    if to in NEXT[state]:
        session.become(to)
        assert session.state is to
    else:
        with pytest.raises(AssertionError):
            session.become(to)
        assert session.state is state


@given(st.binary(max_size=300), st.booleans(), st.booleans(), st.sampled_from(list(State)))
def test_no_bytes_raise(data: bytes, is_text: bool, binary: bool, state: State) -> None:
    found = session_in(state, binary=binary).receive(data, is_text)
    if isinstance(found, Refuse | Reject):
        assert Code(found.error.code)


def test_sends_are_limited_by_a_bucket_that_fills_again() -> None:
    clock = Clock()
    session = Session(live(Limits(sends_per_s=2.0, sends_burst=3)), False, clock)
    session.become(State.OPENING)
    session.become(State.LIVE)

    def send(n: int) -> object:
        found = session.receive(encode_json(Send(f"s{n}", "g_1", "k", "x")), True)
        session.finished(f"s{n}")
        return found

    assert [type(send(n)) for n in range(4)] == [Send, Send, Send, Refuse]
    refused = send(5)
    assert isinstance(refused, Refuse)
    assert (refused.error.code, refused.error.retry_after_ms) == (Code.RATE_LIMITED, 500)
    clock.now_s += 0.5
    assert [type(send(n)) for n in range(6, 8)] == [Send, Refuse]
    clock.now_s += 1000
    assert [type(send(n)) for n in range(8, 12)] == [Send, Send, Send, Refuse]
    assert isinstance(session.receive(encode_json(PING), True), Ping)


@pytest.mark.parametrize("state", [State.OPENING, State.LIVE])
def test_pings_are_limited_as_other_frames_that_store_nothing(state: State) -> None:
    session = session_in(state, Limits(sends_per_s=2.0, sends_burst=3))

    def ping() -> object:
        found = session.receive(encode_json(PING), True)
        session.finished(PING.id)
        return found

    assert [type(ping()) for _ in range(3 * OTHERS_PER_SEND)] == [Ping] * 3 * OTHERS_PER_SEND
    refused = ping()
    assert isinstance(refused, Refuse)
    assert (refused.error.code, refused.error.retry_after_ms) == (Code.RATE_LIMITED, 50)


@pytest.mark.parametrize("state", [State.OPENING, State.LIVE])
@pytest.mark.parametrize("frame", [SEND, PING, HELLO])
def test_who_goes_on_in_spite_of_refusals_is_closed_and_who_waits_is_not(
    state: State, frame: msgspec.Struct
) -> None:
    clock, burst = Clock(), 3 * OTHERS_PER_SEND
    session = Session(live(Limits(sends_per_s=2.0, sends_burst=3)), False, clock)
    for step in WAY[1 : WAY.index(state) + 1]:
        session.become(step)

    def limited() -> Refuse | Reject:
        """The next answer that says too many."""
        while True:
            found = session.receive(encode_json(frame), True)
            session.finished(frame.id)  # type: ignore[attr-defined]
            if isinstance(found, Refuse | Reject) and found.error.code == Code.RATE_LIMITED:
                return found

    for _ in range(3):
        assert {type(limited()) for _ in range(burst)} == {Refuse}
        clock.now_s += 1000
    assert {type(limited()) for _ in range(burst)} == {Refuse}
    last = limited()
    assert isinstance(last, Reject) and last.close is Close.RATE_LIMITED


def test_open_requests_are_counted_until_they_are_finished() -> None:
    session = session_in(State.LIVE, Limits(open_requests_max=2))
    for frame_id in ("a", "b"):
        assert session.receive(encode_json(Ping(frame_id)), True) == Ping(frame_id)
    again, third = (session.receive(encode_json(Ping(i)), True) for i in ("a", "c"))
    assert isinstance(again, Refuse) and again.error.code == Code.CONFLICT
    assert isinstance(third, Refuse) and third.error.code == Code.BUSY
    session.finished("a")
    assert session.receive(encode_json(Ping("c")), True) == Ping("c")


def test_refused_frames_in_a_row_end_it_and_a_good_one_starts_the_count_anew() -> None:
    session = session_in(State.LIVE)
    for _ in range(3):
        for _ in range(MALFORMED_MAX - 1):
            assert isinstance(session.receive(b'{"type":"sing"}', True), Refuse)
        session.receive(encode_json(PING), True)
        session.finished(PING.id)
    for _ in range(MALFORMED_MAX - 1):
        session.receive(b'{"type":"sing"}', True)
    last = session.receive(b'{"type":"sing"}', True)
    assert isinstance(last, Reject) and last.close is Close.POLICY


def test_a_ping_that_costs_more_leaves_a_debt() -> None:
    clock = Clock()
    session = Session(live(Limits(sends_per_s=2.0, sends_burst=3)), False, clock)
    session.become(State.OPENING)
    session.become(State.LIVE)

    def ping() -> object:
        found = session.receive(encode_json(PING), True)
        session.finished(PING.id)
        return found

    assert isinstance(ping(), Ping)
    session.charge(3 * OTHERS_PER_SEND + 39)
    refused = ping()
    assert isinstance(refused, Refuse) and refused.error.retry_after_ms == 2050
    clock.now_s += 2.125
    assert [type(ping()) for _ in range(3)] == [Ping, Ping, Refuse]


async def test_sessions_of_one_device_share_what_they_may_send() -> None:
    limits = Limits(sends_per_s=100.0, sends_burst=3)
    present = live(limits)
    meters, clock = Meters(present), Clock()

    def sends(device: str, number: int) -> list[type]:
        session = Session(present, False, clock)
        session.become(State.OPENING)
        session.become(State.LIVE)
        session.meter = meters.of(device)
        found = [
            type(session.receive(encode_json(Send(f"s{n}", "g", "k", "x")), True)) for n in range(number)
        ]
        meters.rest(session.meter)
        return found

    assert sends("phone", 2) == [Send, Send]
    # The first session is gone, and nothing is gained by that.
    assert sends("phone", 2) == [Send, Refuse]
    assert sends("laptop", 4) == [Send, Send, Send, Refuse]
    await asyncio.sleep(0.04)
    gc.collect()
    assert len(meters._of) == 0
