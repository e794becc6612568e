"""Whom a request is counted for behind a proxy: believed only from those that FORWARDED_ALLOW_IPS names."""

from __future__ import annotations

import httpx
import pytest
from support.api_calls import PASSWORD
from support.services import Shore

from chatkernel.settings import LiveSettings, RateSettings

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("proxies", "statuses"),
    [
        ({}, [201, 429, 429]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.0/8"}, [201, 429, 429]),
        ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, [201, 201, 429]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.0/8,127.0.0.0/8"}, [201, 201, 429]),
    ],
)
async def test_sign_ups_are_counted_for_where_they_come_from(
    ground: Shore, proxies: dict[str, str], statuses: list[int]
) -> None:
    live = LiveSettings(rates=RateSettings(signups_per_address=1))
    api = await ground.api_pod("api-1", environ=proxies, live=live).started()
    found = []
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as http:
        for number, address in enumerate(("192.0.2.1", "192.0.2.2", "192.0.2.1")):
            answer = await http.post(
                "/v1/accounts",
                json={"username": f"person-{number}", "password": PASSWORD},
                headers={"x-forwarded-for": address},
            )
            found.append(answer.status_code)
    assert found == statuses
