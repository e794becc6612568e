"""What is written for people never waits for them, and what they missed is told."""

from __future__ import annotations

import os
import threading

from chatoperator.outlet import WAITING_MAX, Outlet

FULL_PIPE_BYTES = 1 << 20
"""More than a pipe takes."""


def read_all(reader: int) -> bytes:
    read = b""
    while data := os.read(reader, 1 << 16):
        read += data
    return read


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    outlet.write("x" * FULL_PIPE_BYTES + "\n")
    while outlet.is_behind:  # until the thread has taken it, and stands still
        pass
    for number in range(WAITING_MAX + 10):
        outlet.write(f"line {number}\n")
    assert outlet.is_behind
    got: list[bytes] = []
    reading = threading.Thread(target=lambda: got.append(read_all(reader)))
    reading.start()
    while outlet.is_behind:
        pass
    outlet.write("the last\n")
    outlet.finish(10)
    os.close(writer)
    reading.join()
    os.close(reader)
    lines = got[0].decode().splitlines()
    assert lines[1 : WAITING_MAX + 1] == [f"line {number}" for number in range(WAITING_MAX)]
    assert lines[WAITING_MAX + 1 :] == ["(10 lines were not shown: see the log)", "the last"]


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(writer)
    for _ in range(3):
        outlet.write("nobody reads this\n")
    outlet.finish(10)
    os.close(writer)


def test_a_reader_that_stands_still_is_not_waited_for_at_the_end() -> None:
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    for _ in range(WAITING_MAX + 2):
        outlet.write("x" * FULL_PIPE_BYTES + "\n")
    outlet.finish(0.01)
    assert outlet.is_behind
    os.close(reader)  # which lets the thread go
