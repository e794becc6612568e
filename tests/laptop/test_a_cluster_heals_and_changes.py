"""The laptop cluster keeps what was asked for, whatever happens to its processes."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable

from laptoprun import SPEC, Up, post, until


def test_killed_pods_are_replaced_and_the_number_follows_the_orders(start: Callable[..., Up]) -> None:
    up = start()
    status = up.ready()
    assert status["phase"] == "Running"
    assert sorted(pod["kind"] for pod in status["pods"]) == ["api", "chat", "chat", "worker"]
    accounts = json.loads((up.data / "accounts.json").read_text())
    for name in ("alice", "bob"):
        login = {"username": name, "password": accounts[name]["password"]}
        assert post(status["url"] + "/v1/sessions", login)["user_id"] == accounts[name]["user_id"]

    victim = up.pods()[0]["name"]
    assert up.ask(do="kill", pod=victim)["ok"]
    until(lambda: victim not in [pod["name"] for pod in up.pods()])
    after = up.settled(2)
    assert sorted(pod["restarts"] for pod in after) == [0, 1]

    assert up.ask(do="scale", replicas=4)["ok"]
    up.settled(4)
    assert up.ask(do="scale", replicas=2)["ok"]
    up.settled(2)

    drained = up.pods()[0]["name"]
    assert up.ask(do="drain", pod=drained)["ok"]
    until(lambda: drained not in [pod["name"] for pod in up.pods()])
    assert len(up.settled(2)) == 2

    # Who connects before the new API pod is there waits; nobody is refused.
    (pod,) = up.pods("api")
    assert up.ask(do="kill", pod=pod["name"])["ok"]
    carol = {"username": "carol", "password": "correct horse battery"}
    assert post(status["url"] + "/v1/accounts", carol)["user_id"]
    assert up.pods("api")[-1]["name"] != pod["name"]

    assert not up.ask(do="kill", pod="nobody")["ok"]
    assert not up.ask(do="scale", replicas=0)["ok"]
    assert not up.ask(do="dance")["ok"]


def test_redis_comes_back_where_it_was_and_pods_register_again(start: Callable[..., Up]) -> None:
    up = start()
    url = up.ready()["url"]
    names = [pod["name"] for pod in up.settled(2)]
    for action in ("kill", "flush"):
        assert up.ask(do="redis", action=action)["ok"]

        def seat() -> bool:
            accounts = json.loads((up.data / "accounts.json").read_text())
            login = {"username": "alice", "password": accounts["alice"]["password"]}
            tokens = post(url + "/v1/sessions", login)
            request = urllib.request.Request(url + "/v1/seats", b"{}", method="POST")
            request.add_header("Authorization", f"Bearer {tokens['access_token']}")
            request.add_header("Content-Type", "application/json")
            try:
                return urllib.request.urlopen(request, timeout=5).status == 200
            except urllib.error.HTTPError:
                return False

        until(seat, what=f"a seat after {action}")
    assert [pod["name"] for pod in up.settled(2)] == names, "the pods have stayed"
    assert up.ask(do="status")["redis"]["restarts"] == 1


def test_a_changed_setting_rolls_the_pods_new_before_old(start: Callable[..., Up]) -> None:
    up = start()
    up.ready()
    old = {pod["name"] for pod in up.settled(2)}
    up.file.write_text("spec: nonsense\n")
    until(lambda: up.ask(do="status")["problem"], what="the bad edit is told")
    assert {pod["name"] for pod in up.pods()} == old

    up.file.write_text(SPEC.format(replicas=2, heartbeat=5))
    fewest, most, deadline = 9, 0, time.monotonic() + 30
    while True:
        pods = [pod for pod in up.pods() if pod["phase"] != "dead"]
        # A pod that drains still serves; it was told to only when its successor was ready.
        serving = [pod for pod in pods if pod["phase"] in ("ready", "draining", "leaving")]
        fewest, most = min(fewest, len(serving)), max(most, len(pods))
        if not old & {pod["name"] for pod in pods}:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert fewest >= 2
    assert most == 3
    assert len({pod["revision"] for pod in up.settled(2)}) == 1
    assert up.ask(do="status")["problem"] == ""

    names = [pod["name"] for pod in up.settled(2)]
    rates = SPEC.format(replicas=2, heartbeat=5).replace("deadlineSeconds: 3", "deadlineSeconds: 4")
    up.file.write_text(rates)
    until(lambda: up.ask(do="status")["spec"]["drain"]["deadlineSeconds"] == 4)
    assert [pod["name"] for pod in up.settled(2)] == names, "a change of rates makes no new pods"
