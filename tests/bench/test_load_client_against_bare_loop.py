"""The load client against the bare loop: what the one counts is held against what the other wrote."""

from __future__ import annotations

from bench import bareloop, loadclient
from bench.plans import Plan
from bench.remote import Remote

ROOMS, MEMBERS = 2, 3


def test_every_request_comes_back_once_to_each_member() -> None:
    with Remote(bareloop.main, None) as bare, Remote(loadclient.main, None) as client:
        port = bare.call("listen", b'{"type":"event","text":"@0000000000000000 x"}')
        client.call("configure", "run", "", "")
        client.call("beats", False)
        plans = [
            Plan("u", f"d_{room}_{n}", "127.0.0.1", port, f"/{room}", channel_id="c" if n == 0 else "")
            for room in range(ROOMS)
            for n in range(MEMBERS)
        ]
        client.call("open", plans, 4)
        window = client.call("closed_loop", [(0, 1), (MEMBERS, 2)], 0.0, 0.15, [bare.pid])
        assert window.acks > 10
        # What is under way at the edges of the window is at most the three requests in flight.
        assert abs(window.events - window.acks * MEMBERS) <= 3 * MEMBERS
        assert window.cpu_s[bare.pid] > 0
        totals = client.call("totals")
        assert totals["acks"] == totals["sent"]
        assert totals["events"] == totals["sent"] * MEMBERS


def test_open_loop_keeps_its_rate() -> None:
    with Remote(bareloop.main, None) as bare, Remote(loadclient.main, None) as client:
        port = bare.call("listen", b'{"type":"event","text":"x"}')
        client.call("configure", "run", "", "")
        client.call("open", [Plan("u", "d", "127.0.0.1", port, "/0", channel_id="c")], 1)
        (window,) = client.call("open_loop", [0], 400.0, 0.1, 1, [])
        assert 300 <= window.acks <= 420
        assert len(window.late_us) == window.sent
