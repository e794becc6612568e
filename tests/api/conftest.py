"""One real API pod for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from support.api_pod import Pod, settings_of
from support.valkey import Valkey, valkey_server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def pod(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    started = Pod(settings_of(tmp_path_factory.mktemp("api"), valkey.url)).start()
    yield started
    started.stop()


@pytest.fixture
async def http(pod: Pod) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pod.url, trust_env=False, timeout=10) as client:
        yield client
