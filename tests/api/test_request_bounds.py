"""What a stranger's request may cost: bytes, time and connections have limits before anybody is known."""

import asyncio
import json
import time

import httpx
import pytest
from support.api_calls import problem, sign_up
from support.api_pod import Pod, settings_of
from support.rawhttp import RawHttp

from chatkernel.protocol import Limits

HEAD_MAX = 8 * 1024
LARGE = 1024 * 1024
ENDLESS = 64 * 1024 * 1024
LIMITS = Limits(head_max_bytes=HEAD_MAX, head_timeout_s=0.5, body_timeout_s=0.5, keep_alive_s=1)
START = b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def bounded(valkey, tmp_path_factory):
    pod = Pod(settings_of(tmp_path_factory.mktemp("bounded"), valkey.url, limits=LIMITS)).start()
    yield pod
    pod.stop()


@pytest.fixture
async def raw(bounded):
    connection = await RawHttp.open(bounded.url)
    yield connection
    connection.close()


async def test_a_full_body_of_quotes_is_refused_at_once_and_holds_nobody_up(http, pod):
    size = pod.settings.live.limits.body_max_bytes
    body = (b"[" * 10 + b'"' + b'\\"' * size)[:size]
    # Looking for the missing end from every quote would take minutes.
    began = time.monotonic()
    bad = [asyncio.create_task(http.post("/v1/accounts", content=body)) for _ in range(4)]
    others = [await http.get("/healthz") for _ in range(5)]
    for refused in await asyncio.gather(*bad):
        document = problem(refused, 422, "invalid_field")
        assert document["field"] == "body" and document["limit"]
    assert time.monotonic() - began < 8
    assert all(answer.status_code == 200 for answer in others)


@pytest.mark.parametrize(
    "start",
    [b"GET /", START + b"X-Long: ", START + b"X-", START + b"Content-Length: 5\r\n\r\n12345GET /"],
    ids=["url", "value", "name", "second request"],
)
async def test_a_head_that_does_not_end_is_refused(raw, start):
    await raw.send(start)
    if b"12345" in start:
        assert (await raw.answer())[0] == 422
    await raw.pour(b"x" * 4096, LARGE)
    document = await raw.refusal(431, "head_too_large")
    assert document["limit"] == HEAD_MAX


async def test_who_goes_on_after_the_refusal_is_cut_off(raw):
    await raw.send(START + b"X-Long: ")
    assert await raw.pour(b"x" * 4096, ENDLESS) < ENDLESS


async def test_many_small_headers_are_refused_as_one_large_one(raw):
    await raw.send(START + b"".join(b"X-%d: y\r\n" % number for number in range(2000)))
    assert (await raw.refusal(431, "head_too_large"))["limit"] == HEAD_MAX


async def test_a_head_up_to_the_limit_is_read(bounded):
    async with httpx.AsyncClient(base_url=bounded.url, trust_env=False) as http:
        assert (await http.get("/healthz", headers={"x-long": "x" * (HEAD_MAX - 500)})).status_code == 200
        problem(await http.get("/healthz", headers={"x-long": "x" * HEAD_MAX}), 431, "head_too_large")
        problem(await http.get("/healthz?" + "x" * HEAD_MAX), 431, "head_too_large")


async def test_trailers_and_chunk_extensions_are_bounded_too(bounded):
    chunked = START + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    for start in (chunked + b"0\r\nX-Trailer: ", chunked + b"1;"):
        raw = await RawHttp.open(bounded.url)
        await raw.send(start)
        await raw.pour(b"x" * 4096, LARGE)
        await raw.refusal(431, "head_too_large")
        raw.close()


@pytest.mark.parametrize("start", [b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow", b"G"])
async def test_a_head_that_never_ends_is_given_up(raw, start):
    await raw.send(start)
    document = await raw.refusal(408, "too_slow", within_s=5)
    assert document["retryable"] and document["field"] == "head"


async def test_who_says_nothing_or_nothing_that_counts_is_closed(bounded):
    for data in (b"", b"\r\n"):
        raw = await RawHttp.open(bounded.url)
        await raw.send(data)
        await raw.ends(within_s=5)
        raw.close()


async def test_a_trickle_does_not_make_a_head_last_longer(raw):
    await raw.send(START)
    began = time.monotonic()

    async def trickle():
        while True:
            await raw.send(b"x")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    await raw.refusal(408, "too_slow", within_s=5)
    assert time.monotonic() - began < 4
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)


@pytest.mark.parametrize("part", [b"", b'{"user'])
async def test_a_body_that_does_not_come_is_given_up(raw, part):
    await raw.send(START + b"Content-Length: 100\r\n\r\n" + part)
    document = await raw.refusal(408, "too_slow", within_s=5)
    assert document["field"] == "body" and document["retryable"]


async def test_the_rest_of_a_body_that_was_answered_already_is_not_waited_for(raw):
    await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
    assert (await raw.answer())[0] == 200
    await raw.send(b"x")
    await raw.ends(within_s=5)


async def test_an_idle_connection_is_closed_after_its_time(raw):
    await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await raw.answer())[0] == 200
    await raw.ends(within_s=5)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/seats HTTP/1.1\r\n\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_document(raw, data):
    await raw.send(data)
    await raw.refusal(400, "malformed")


async def test_what_was_asked_before_something_broken_is_answered(raw):
    await raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\x02")
    status, _, body = await raw.answer()
    assert (status, json.loads(body)) == (200, {"live": True})
    await raw.ends()


async def test_several_frames_go_over_one_connection(pod, http):
    anna = await sign_up(http)
    channel = (await anna.ok("POST", "/v1/channels", {"kind": "group", "name": "g"}))["channel_id"]
    raw = await RawHttp.open(pod.url)
    seqs = []
    for number in range(5):
        frame = {"type": "send", "id": "f", "channel_id": channel, "client_msg_id": str(number), "text": "x"}
        body = json.dumps(frame).encode()
        token = anna.headers["authorization"].encode()
        await raw.send(
            b"POST /v1/frames HTTP/1.1\r\nHost: x\r\nAuthorization: "
            + token
            + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        status, headers, answer = await raw.answer()
        assert status == 200 and "connection" not in headers
        seqs.append(json.loads(answer)["frames"][-1]["seq"])
    assert seqs == [2, 3, 4, 5, 6]
    raw.close()
