"""`kubectl chat logs`: which lines are about somebody, and how a line looks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from support.kube_api import kubeconfig

from chatclient.cli.kubeapi import LINE_MAX_BYTES, reach
from chatclient.cli.kubelogs import Line, is_about, past, shown

AT = "2026-01-31T12:00:00.123456789Z"


def line(text: str | dict[str, object]) -> Line:
    return Line(AT, "talk-chat-1", text if isinstance(text, str) else json.dumps(text))


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "refresh.reused", "user_id": "u1"},
        {"event": "request", "path": "/v1/channels/u1/messages?before=3"},
        {"event": "many", "users": ["u0", "u1"]},
        {"event": "nested", "by": {"u1": 3}},
    ],
)
def test_a_line_with_the_id_in_a_field_is_about_it(fields: dict[str, object]) -> None:
    assert is_about(line(fields), "u1")


@pytest.mark.parametrize("fields", [{"event": "other", "user_id": "u12"}, {"event": "u", "count": 1}])
def test_a_line_with_another_id_is_not(fields: dict[str, object]) -> None:
    assert not is_about(line(fields), "u1")


def test_without_an_id_every_line_is_told() -> None:
    assert is_about(line({"event": "anything"}), "")


def test_what_is_no_json_is_told_when_it_names_the_id() -> None:
    assert is_about(line("Traceback: u1"), "u1")
    assert not is_about(line("Traceback"), "u1")


def test_a_line_is_shown_with_time_pod_event_and_the_rest() -> None:
    told = line(
        {"at": "x", "level": "info", "service": "chatpod", "pod": "p", "event": "drain over", "told": 3}
    )
    assert shown(told) == "12:00:00.123  talk-chat-1  drain over  told=3"
    assert shown(line("plain text")) == "12:00:00.123  talk-chat-1  plain text"


async def test_a_line_beyond_all_measure_is_cut_and_takes_none_with_it(tmp_path: Path) -> None:
    log = "\n".join(f"{AT[:-2]}{n}Z {text}" for n, text in enumerate(("first", "x" * 3_000_000, "last")))

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=log)  # without an end of the last line

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/chat/pods/talk-chat-1/log", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = tmp_path / "config"
        config.write_text(yaml.safe_dump(kubeconfig(f"http://127.0.0.1:{runner.addresses[0][1]}")))
        async with reach(str(config), "", "chat") as kube:
            pod = {"metadata": {"namespace": "chat", "name": "talk-chat-1"}}
            first, long, last = await past(kube, [pod], "", 60)
    finally:
        await runner.cleanup()
    assert (first.text, last.text) == ("first", "last")
    assert len(long.text) + len(long.at) + 1 == LINE_MAX_BYTES
