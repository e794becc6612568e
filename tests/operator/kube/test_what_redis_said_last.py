"""What Redis said while it answered is not held against it when it does not."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from support.manifest_samples import GATEWAY, cluster_of
from support.valkey import Valkey

from chatoperator.kube.link import RedisLink


async def test_a_refusal_ends_with_the_answers(own_valkey: Valkey) -> None:
    link, place = RedisLink(lambda: None), urlsplit(own_valkey.url)
    await link.open(cluster_of(GATEWAY), f"redis://chat:wrong@{place.hostname}:{place.port}/0")
    try:
        assert await link.observe(time.time()) is None
        assert link.refusal is not None
        own_valkey.freeze()
        assert await link.observe(time.time()) is None
        assert link.refusal is None
    finally:
        own_valkey.thaw()
        await link.aclose()
