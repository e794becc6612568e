"""Jobs: one of a kind and subject, one who works on it, and nothing written by who lost it."""

from __future__ import annotations

import asyncio

import msgspec

from chatkernel.storage.model import Job, JobKind, JobState
from chatkernel.storage.open import Store, open_store


def job(number: int = 1, subject: str = "u_ann", kind: JobKind = JobKind.ERASE, run_at: int = 0) -> Job:
    return Job(f"j_{number}", kind, subject, 1_000 + number, run_at=run_at)


def changed(found: Job | None, **fields: object) -> Job:
    assert found is not None
    return msgspec.structs.replace(found, **fields)


async def test_there_is_one_of_a_kind_and_subject(store: Store) -> None:
    assert await store.put_job(job()) == job()
    assert await store.put_job(job(2)) == job()
    assert await store.put_job(job(3, kind=JobKind.EXPORT)) == job(3, kind=JobKind.EXPORT)
    assert await store.job("j_1") == await store.job_of(JobKind.ERASE, "u_ann") == job()
    assert await store.job("j_2") is None
    assert await store.job_of(JobKind.ERASE, "u_bob") is None
    assert [each.job_id for each in await store.jobs(10)] == ["j_3", "j_1"]
    assert [each.job_id for each in await store.jobs(1)] == ["j_3"]


async def test_many_who_ask_at_once_get_the_same(store: Store, store_url: str) -> None:
    other = await open_store(store_url)
    stores = [store, other] * 5
    found = await asyncio.gather(*(each.put_job(job(n)) for n, each in enumerate(stores)))
    assert len({each.job_id for each in found}) == 1
    await other.aclose()


async def test_one_that_has_ended_is_replaced_with_what_it_made(store: Store) -> None:
    await store.put_job(job())
    assert await store.put_job(job(2), replaces="j_1") == job()
    claimed = changed(await store.claim_job(10, 20), state=JobState.DONE, expires_at=99)
    await store.put_chunk("j_1", 1, 0, b"old")
    assert await store.keep_job(claimed)
    assert await store.put_job(job(2)) == claimed
    assert await store.put_job(job(2), replaces="j_other") == claimed
    assert await store.put_job(job(2), replaces="j_1") == job(2)
    assert await store.chunk("j_1", 1, 0) is None


async def test_a_claim_is_one_workers_until_its_lease_ends(store: Store) -> None:
    await store.put_job(job(run_at=5))
    assert await store.claim_job(4, 20) is None
    first = await store.claim_job(5, 20)
    assert first == changed(job(run_at=5), attempt=1, lease_until=20, state=JobState.RUNNING, updated_at=5)
    assert await store.claim_job(19, 40) is None
    assert await store.keep_job(changed(first, lease_until=30, cursor="{}", progress=7))
    assert await store.claim_job(29, 40) is None
    second = await store.claim_job(30, 50)
    assert second is not None and (second.attempt, second.cursor, second.progress) == (2, "{}", 7)
    # The first comes back and is refused, and what the second has is whole.
    assert not await store.keep_job(changed(first, progress=99))
    assert await store.job("j_1") == second
    assert await store.keep_job(changed(second, state=JobState.DONE))
    assert not await store.keep_job(changed(second, progress=99))
    assert await store.claim_job(10_000, 20_000) is None


async def test_who_was_due_first_comes_first_and_of_many_claims_each_job_goes_to_one(
    store: Store, store_url: str
) -> None:
    for number in range(6):
        await store.put_job(job(number, f"u_{number}", run_at=100 - number))
    other = await open_store(store_url)
    first = await store.claim_job(200, 300)
    assert first is not None and first.job_id == "j_5"
    claims: list[Job] = []
    while len(claims) < 5:
        some = await asyncio.gather(*(each.claim_job(200, 300) for each in (store, other, store, other)))
        claims += [claim for claim in some if claim is not None]
    assert sorted(claim.job_id for claim in claims) == [f"j_{number}" for number in range(5)]
    assert await other.claim_job(200, 300) is None
    await other.aclose()


async def test_ended_jobs_are_found_when_they_are_over_and_dropped_with_their_chunks(store: Store) -> None:
    for number in range(3):
        await store.put_job(job(number, f"u_{number}"))
        claimed = await store.claim_job(10, 20)
        ended = changed(claimed, state=JobState.FAILED if number else JobState.DONE, expires_at=number * 50)
        assert await store.keep_job(ended)
    assert [each.job_id for each in await store.ended_jobs(60, 10)] == ["j_1"]
    assert sorted(each.job_id for each in await store.ended_jobs(100, 10)) == ["j_1", "j_2"]
    await store.put_chunk("j_1", 1, 0, b"x")
    over = await store.job("j_1")
    assert over is not None
    await store.drop_job(over)
    assert await store.job("j_1") is None and await store.chunk("j_1", 1, 0) is None
    await store.drop_job(over)


async def test_chunks_are_bytes_by_attempt_and_number(store: Store) -> None:
    data = bytes(range(256)) * 4096
    await store.put_chunk("j_1", 1, 0, b"first")
    await store.put_chunk("j_1", 1, 0, data)
    await store.put_chunk("j_1", 2, 0, b"other")
    assert await store.chunk("j_1", 1, 0) == data
    assert await store.chunk("j_1", 2, 0) == b"other"
    assert await store.chunk("j_1", 1, 1) is None
    await store.drop_chunks("j_1")
    assert await store.chunk("j_1", 2, 0) is None
