"""Discovery by HTTP, with chat pods that are only entries in a real registry."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from support.api_calls import Person, problem, sign_up
from support.api_pod import SECRETS, Pod, serving, settings_of
from support.redis_servers import one_server, until
from support.valkey import eventually, free_port, redis_client, valkey_server

from apipod.discovery import REFRESH_INTERVAL_S
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.keys import Keys
from chatkernel.registry import PodEntry, PodState, Policy, Registry
from chatkernel.tickets import TicketRedeemer

LEASE_S = 30.0


def entry(name, **changes):
    usual = PodEntry(name, f"{name}-run", f"ws://{name}", "local", "r1", PodState.READY, 0, 1000, now_ms())
    return msgspec.structs.replace(usual, **changes)


class World:
    def __init__(self, pod, http, registry):
        self.pod, self.http, self.registry = pod, http, registry

    async def put(self, *entries):
        for one in entries:
            assert (await self.registry.renew(one, LEASE_S)).ok

    async def seats(self, person, **body):
        return await person.ok("POST", "/v1/seats", body)


@asynccontextmanager
async def world_of(url, tmp_path):
    pod = Pod(settings_of(tmp_path, url)).start()
    try:
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as http, redis_client(url) as redis:
            keys = Keys(pod.settings.key_prefix, pod.settings.cluster)
            yield World(pod, http, Registry(redis, keys))
    finally:
        pod.stop()


@pytest.fixture
async def world(valkey, tmp_path):
    async with world_of(valkey.url, tmp_path) as made:
        yield made


async def test_a_seat_has_a_ticket_for_that_pod_person_and_device_once(world):
    await world.put(entry("chat-0"))
    anna = await sign_up(world.http)
    best = (await world.seats(anna))["best"]
    assert (best["pod"], best["url"]) == ("chat-0", "ws://chat-0")
    assert 25_000 < best["expires_at"] - now_ms() <= 30_000
    redeemer = TicketRedeemer(SECRETS, "chat-0", now_ms)
    ticket = redeemer.redeem(best["ticket"], "chat-0-run")
    assert (ticket.user_id, ticket.device_id) == (anna.id, anna.device_id)
    with pytest.raises(ChatError) as caught:
        redeemer.redeem(best["ticket"], "chat-0-run")
    assert caught.value.code is Code.TICKET_USED


async def test_the_body_may_be_left_out(world):
    await world.put(entry("chat-0"))
    anna = await sign_up(world.http)
    assert (await anna.ok("POST", "/v1/seats"))["best"]["pod"] == "chat-0"


async def test_a_thousand_at_once_are_spread(world, monkeypatch):
    # "At once" on a slow machine as well: no assignment is forgotten before the last one is made.
    monkeypatch.setattr("apipod.discovery.RECENT_S", 60.0)
    await world.put(*(entry(f"chat-{n}") for n in range(4)))
    anna = await sign_up(world.http)
    answers = await asyncio.gather(*(world.seats(anna) for _ in range(200)))
    assert set(Counter(a["best"]["pod"] for a in answers).values()) == {50}
    assert all(len(a["alternatives"]) == 3 for a in answers)
    assert all(len({s["pod"] for s in [a["best"], *a["alternatives"]]}) == 4 for a in answers)


async def test_region_comes_first_then_free_capacity(world):
    await world.put(
        entry("far-empty", region="moon"), entry("near-busy", connections=900), entry("near", connections=500)
    )
    anna = await sign_up(world.http)
    order = await world.seats(anna)
    assert [s["pod"] for s in [order["best"], *order["alternatives"]]] == ["near", "near-busy", "far-empty"]
    assert (await world.seats(anna, region="moon"))["best"]["pod"] == "far-empty"


async def test_what_was_put_out_before_the_question_is_not_handed_out(world):
    await world.put(*(entry(f"chat-{n}") for n in range(3)))
    anna = await sign_up(world.http)
    for number in range(10):
        await world.put(entry("chat-0", state=PodState.DRAINING if number % 2 else PodState.READY))
        answer = await world.seats(anna)
        pods = {s["pod"] for s in [answer["best"], *answer["alternatives"]]}
        assert ("chat-0" in pods) == (number % 2 == 0)
    await world.registry.set_policy(Policy("", ["chat-1"]))
    await world.registry.remove("chat-2")
    answer = await asyncio.gather(*(anna.ask("POST", "/v1/seats", {"exclude": ["chat-0"]}) for _ in range(5)))
    for one in answer:
        problem(one, 503, "no_capacity")


async def test_outgoing_revisions_get_nobody(world):
    await world.put(entry("old", revision="r1"), entry("new", revision="r2"))
    await world.registry.set_policy(Policy("r2"))
    anna = await sign_up(world.http)
    answer = await world.seats(anna)
    assert answer["best"]["pod"] == "new" and answer["alternatives"] == []


async def test_when_all_are_full_the_client_is_told_when_to_come_back(world):
    await world.put(entry("chat-0", connections=1000))
    anna = await sign_up(world.http)
    full = await anna.ask("POST", "/v1/seats")
    document = problem(full, 503, "no_capacity")
    assert document["retryable"] and 1 <= document["retry_after_s"] <= 4
    assert int(full.headers["retry-after"]) >= 1


async def test_bad_questions(world):
    anna = await sign_up(world.http)
    problem(await world.http.post("/v1/seats"), 401, "unauthenticated")
    for body, field in (
        ({"region": "x" * 65}, "region"),
        ({"exclude": ["a"] * 65}, "exclude"),
        ({"exclude": [""]}, "exclude[0]"),
    ):
        assert problem(await anna.ask("POST", "/v1/seats", body), 422, "invalid_field")["field"] == field


async def test_with_redis_away_everything_goes_on_from_the_last_look(tmp_path):
    with valkey_server() as own:
        async with world_of(own.url, tmp_path) as world:
            await world.put(entry("chat-0"))
            anna, ben = await sign_up(world.http), await sign_up(world.http)
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            own.kill()
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            ready = await world.http.get("/readyz")
            assert ready.status_code == 200 and ready.json()["degraded"] == ["redis"]
            presence = await anna.ok("GET", "/v1/presence", params={"user_ids": ben.id})
            assert presence["entries"] == [{"user_id": ben.id, "state": "unknown"}]
            channel = (await anna.ok("POST", "/v1/channels", {"kind": "direct", "user_id": ben.id}))[
                "channel_id"
            ]
            ack = await anna.frame("send", channel_id=channel, client_msg_id="1", text="still here")
            assert ack["frames"][-1]["type"] == "ack"
            assert (await anna.ask("DELETE", "/v1/sessions/current")).status_code == 204
            own.start()

            async def whole_again():
                return (await world.http.get("/readyz")).json()["degraded"] == []

            await eventually(whole_again)


async def test_with_no_room_in_redis_everything_goes_on_from_the_last_look(tmp_path):
    with one_server() as own:
        url = f"redis://127.0.0.1:{own.port}"
        async with world_of(url, tmp_path) as world:
            anna, ben = await sign_up(world.http), await sign_up(world.http)
            assert (await world.registry.renew(entry("chat-0"), 1.0)).ok
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            own.do("CONFIG", "SET", "maxmemory", 1)
            await asyncio.sleep(1.2)  # nobody can renew, and the lease runs out
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            ready = await world.http.get("/readyz")
            assert ready.status_code == 200 and ready.json()["degraded"] == ["redis"]
            presence = await anna.ok("GET", "/v1/presence", params={"user_ids": ben.id})
            assert presence["entries"] == [{"user_id": ben.id, "state": "unknown"}]
            own.do("CONFIG", "SET", "maxmemory", 0)

            async def whole_again():
                return (await world.http.get("/readyz")).json()["degraded"] == []

            await eventually(whole_again)
            # The pod renews within a second; until then the last look stands.
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            await world.put(entry("chat-1"))

            async def looked_again():
                return (await world.seats(anna))["best"]["pod"] == "chat-1"

            await eventually(looked_again)


async def test_a_redis_that_was_restarted_between_two_looks_with_old_data_is_not_believed_at_once(
    tmp_path, monkeypatch
):
    # Looks are taken when somebody asks: so nobody has looked while it was away.
    monkeypatch.setattr("apipod.discovery.REFRESH_INTERVAL_S", 600.0)
    monkeypatch.setattr("apipod.discovery.RENEWAL_GRACE_S", 30.0)
    with one_server() as own:
        async with world_of(f"redis://127.0.0.1:{own.port}", tmp_path) as world:
            anna = await sign_up(world.http)
            assert (await world.registry.renew(entry("chat-0"), 0.3)).ok
            own.do("SAVE")
            await asyncio.sleep(0.3)
            await world.put(entry("chat-0"))
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            own.kill()
            own.start()
            await asyncio.to_thread(until, own.answers)
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            await world.put(entry("chat-1"))
            assert (await world.seats(anna))["best"]["pod"] == "chat-1"


async def test_a_frozen_redis_costs_one_short_wait_and_no_more(tmp_path):
    with valkey_server() as own:
        async with world_of(own.url, tmp_path) as world:
            await world.put(entry("chat-0"))
            anna = await sign_up(world.http)
            await world.seats(anna)
            own.freeze()
            try:
                began = asyncio.get_running_loop().time()
                for _ in range(10):
                    assert (await world.seats(anna))["best"]["pod"] == "chat-0"
                assert asyncio.get_running_loop().time() - began < 2.0
            finally:
                own.thaw()


async def test_two_api_pods_both_keep_their_last_look_when_redis_is_emptied(tmp_path):
    with valkey_server() as own:
        async with world_of(own.url, tmp_path) as world:
            other = msgspec.structs.replace(world.pod.settings, pod="api-1", port=free_port())
            async with serving(other) as (_, http):
                anna = await sign_up(world.http)
                elsewhere = Person(http, anna.username, anna.tokens)
                for _ in range(10):
                    await world.put(entry("chat-0"))
                    for person in (anna, elsewhere):
                        await world.seats(person)
                    own.flush()
                    # Many at once, beside the look that is taken twice a second: looks that overlap.
                    asked = [world.seats(person) for _ in range(6) for person in (anna, elsewhere)]
                    assert {a["best"]["pod"] for a in await asyncio.gather(*asked)} == {"chat-0"}
                await world.put(entry("chat-0"))
                for person in (anna, elsewhere):
                    await world.seats(person)
                await world.registry.remove("chat-0")
                for person in (anna, elsewhere):
                    problem(await person.ask("POST", "/v1/seats"), 503, "no_capacity")


async def test_two_looks_at_an_emptied_redis_do_not_take_each_others_mark_for_news(tmp_path):
    with valkey_server() as own:
        async with world_of(own.url, tmp_path) as world:
            await world.put(entry("chat-0"))
            anna = await sign_up(world.http)
            await world.seats(anna)
            own.flush()
            own.freeze()
            # Two looks wait for their answers, and get them together: one for this question, and one because it is
            # time for the regular one.
            await world.seats(anna)
            await asyncio.sleep(REFRESH_INTERVAL_S + 0.1)
            own.thaw()

            async def looked():
                return (await world.http.get("/readyz")).json()["degraded"] == []

            await eventually(looked)
            for _ in range(20):
                assert (await world.seats(anna))["best"]["pod"] == "chat-0"


async def test_emptying_redis_does_not_stop_discovery(tmp_path):
    with valkey_server() as own:
        async with world_of(own.url, tmp_path) as world:
            await world.put(entry("chat-0"))
            anna = await sign_up(world.http)
            await world.seats(anna)
            own.flush()
            assert (await world.seats(anna))["best"]["pod"] == "chat-0"
            await world.put(entry("chat-1"))
            assert (await world.seats(anna))["best"]["pod"] == "chat-1"
            await world.registry.remove("chat-1")
            problem(await anna.ask("POST", "/v1/seats"), 503, "no_capacity")
