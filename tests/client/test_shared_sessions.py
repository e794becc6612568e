"""Several processes of one person share one session file, and its refresh token, which may be used once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_pod import Pod, settings_of
from support.valkey import valkey_server

from chatclient.cli.common import api_as, session_file
from chatclient.errors import Unreachable
from chatclient.http import Api, Nothing, Tokens
from chatkernel.ids import now_ms
from chatkernel.settings import AuthSettings

PASSWORD = "correct horse battery"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """Its access tokens live so shortly that a client renews them before each call."""
    auth = AuthSettings(access_token_ttl_s=5)
    with valkey_server() as valkey:
        pod = Pod(settings_of(tmp_path, valkey.url, auth=auth)).start()
        yield pod
        pod.stop()


async def test_two_clients_of_one_session_renew_in_turns(pod: Pod, tmp_path: Path) -> None:
    data = tmp_path / "data"
    newcomer = Api(pod.url, store=session_file(data, "carol", pod.url))
    await newcomer.sign_up("carol", PASSWORD)
    await newcomer.close()
    both = [await api_as("carol", pod.url, data) for _ in range(2)]
    try:
        for first, second in (both, both[::-1]):
            await first.call("GET", "/v1/channels", kind=Nothing)
            await second.call("GET", "/v1/channels", kind=Nothing)
        calls = (api.call("GET", "/v1/channels", kind=Nothing) for api in both * 5)
        await asyncio.gather(*calls)
        tokens = session_file(data, "carol", pod.url).load()
        assert tokens in [api.tokens for api in both]
    finally:
        for api in both:
            await api.close()
    assert (data / "sessions" / "carol.json").stat().st_mode & 0o777 == 0o600


async def test_tokens_that_another_process_got_are_used_without_asking(tmp_path: Path) -> None:
    store = session_file(tmp_path, "carol", NOBODY)
    stale = Tokens("u_carol", "d_1", "old", "once", expires_at=0)
    fresh = Tokens("u_carol", "d_1", "new", "once more", expires_at=now_ms() + 600_000)
    late = Api(NOBODY, tokens=stale, store=store)
    try:
        async with store.turn():
            waiting = asyncio.create_task(late.access_token())
            store.keep(fresh)
        assert await waiting == "new"
    finally:
        await late.close()


async def test_the_tokens_of_somebody_else_are_not_taken(tmp_path: Path) -> None:
    """Such as a log-in under the same name on another cluster."""
    store = session_file(tmp_path, "carol", NOBODY)
    store.keep(Tokens("u_other", "d_9", "theirs", "theirs", expires_at=now_ms() + 600_000))
    late = Api(NOBODY, tokens=Tokens("u_carol", "d_1", "old", "once", expires_at=0), store=store)
    try:
        with pytest.raises(Unreachable):
            await late.access_token()
    finally:
        await late.close()
