"""Two data directories do not share the keys of one name in one Redis: they would undo each other's work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from laptoprun import SPEC, Up, processes_of, until
from support.valkey import Valkey, fresh_keys, redis_client, valkey_server

from chatkernel.redis_client import execute
from chatoperator.datadir import UpError
from chatoperator.givenredis import Claim, Owner


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@pytest.mark.slow
def test_a_second_directory_is_refused_until_the_first_has_ended(tmp_path: Path, valkey: Valkey) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(SPEC.format(replicas=1, heartbeat=10))
    first = Up(tmp_path / "first", file, "--redis", valkey.url)
    started = [first]
    try:
        first.ready()
        second = Up(tmp_path / "second", file, "--redis", valkey.url)
        started.append(second)
        assert second.process.wait(15) == 1
        told = until(second.output)
        assert f"Redis at 127.0.0.1:{valkey.port} is used by another cluster that is called test" in told
        assert f"{first.data}): give this one another metadata.name, or another Redis." in told
        assert told.count("\n") == 1
        assert processes_of(second.data) == []
        assert first.ask(do="status")["phase"] == "Running"
        assert first.stop() == 0
        third = Up(tmp_path / "second", file, "--redis", valkey.url)
        started.append(third)
        assert third.ready()["phase"] == "Running"
        assert third.stop() == 0
    finally:
        for up in started:
            up.process.kill()
            up.process.wait()


async def test_a_claim_is_kept_by_renewing_and_the_same_directory_takes_it_again(valkey: Valkey) -> None:
    async with redis_client(valkey.url) as redis:
        keys = fresh_keys("claim")
        ours, theirs = Owner("1", "here:/data"), Owner("1", "here:/a-copy-of-data")
        await Claim(redis, keys, ours).take("c", valkey.url)
        await Claim(redis, keys, ours).take("c", valkey.url)
        with pytest.raises(UpError, match=r"is called c \(here:/data\)"):
            await Claim(redis, keys, theirs).take("c", valkey.url)
        await Claim(redis, keys, theirs).release()
        await execute(redis, [("PEXPIRE", keys.owner, "5000")])
        await Claim(redis, keys, ours).renew()
        (left_ms,) = await execute(redis, [("PTTL", keys.owner)])
        assert left_ms > 10_000
        await execute(redis, [("DEL", keys.owner)])  # everything in Redis may be lost
        claim = Claim(redis, keys, ours)
        await claim.renew()
        with pytest.raises(UpError):
            await Claim(redis, keys, theirs).take("c", valkey.url)
        await claim.release()
        await Claim(redis, keys, theirs).take("c", valkey.url)
