"""One real API pod for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from support.api_pod import Pod, settings_of
from support.valkey import Valkey, valkey_server

from chatkernel.settings import PresenceSettings


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def pod(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    # Where no worker has begun presence, it is unknown for a heartbeat and a half: short ones.
    presence = PresenceSettings(heartbeat_interval_s=0.5)
    settings = settings_of(tmp_path_factory.mktemp("api"), valkey.url, presence=presence)
    started = Pod(settings).start()
    yield started
    started.stop()


@pytest.fixture
async def http(pod: Pod) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pod.url, trust_env=False, timeout=10) as client:
        yield client
