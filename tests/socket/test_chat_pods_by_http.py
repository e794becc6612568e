"""A chat pod by plain HTTP: refusals are problem documents, and connections that say no hello cost little."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import msgspec
import pytest
from support.api_calls import problem, sign_up
from support.cluster import Cluster, default_spec, running_cluster
from support.rawhttp import RawHttp
from support.rawsocket import seat

from chatkernel.opstoken import ops_token
from chatkernel.protocol import Limits
from chatkernel.settings import SecretFile

UPGRADE = b"GET /v1/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
WHOLE = UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
HEAD_MAX = 16 * 1024


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    limits = {"headMaxBytes": HEAD_MAX, "headTimeoutS": 1.0, "keepAliveS": 2}
    spec = default_spec(chatPods={"replicas": 1}, limits=limits)
    with running_cluster(tmp_path_factory.mktemp("bounded") / "data", spec) as started:
        yield started


@pytest.fixture
async def url(bounded: Cluster) -> str:
    """Of its chat pod."""
    await bounded.whole(1)
    async with httpx.AsyncClient(base_url=bounded.url, trust_env=False) as http:
        address = (await seat(await sign_up(http)))["url"]
    return str(httpx.URL(address).copy_with(scheme="http", path="/"))


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture
async def raw(url: str) -> AsyncIterator[RawHttp]:
    connection = await RawHttp.open(url)
    yield connection
    connection.close()


async def test_refusals_are_problem_documents(http: httpx.AsyncClient) -> None:
    problem(await http.get("/nowhere"), 404, "not_found")
    problem(await http.get("/healthz/"), 404, "not_found")
    wrong = await http.post("/statz")
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD"
    problem(await http.get("/drain"), 405, "method_not_allowed")
    for path in ("/drain", "/undrain"):
        refused = await http.post(path, headers={"authorization": "Bearer nonsense"})
        assert problem(refused, 401, "unauthenticated")["field"] == "Authorization"
        assert refused.headers["www-authenticate"] == "Bearer"
    assert problem(await http.get("/v1/socket"), 400, "malformed")["field"] == "Upgrade"
    assert (await http.head("/healthz")).status_code == 200


async def test_the_body_of_an_order_is_bounded(bounded: Cluster, http: httpx.AsyncClient) -> None:
    secrets = msgspec.json.decode((bounded.data / "secrets.json").read_bytes(), type=SecretFile)
    most = Limits().body_max_bytes
    refused = await http.post(
        "/drain", content=b"x" * (most + 1), headers={"authorization": f"Bearer {ops_token(secrets)}"}
    )
    said = problem(refused, 413, "too_large")
    assert (said["field"], said["limit"]) == ("body", most)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (UPGRADE + b"\r\n", 400, "malformed"),
        (WHOLE.replace(b": 13", b": 7") + b"\r\n", 400, "malformed"),
        (WHOLE.replace(b"GET", b"POST") + b"\r\n", 400, "malformed"),
        (WHOLE + b"X-Long: " + b"x" * 9000 + b"\r\n\r\n", 431, "head_too_large"),
        (WHOLE + b"X-Many: y\r\n" * 200 + b"\r\n", 431, "head_too_large"),
        (b"nonsense\r\n\r\n", 400, "malformed"),
    ],
)
async def test_what_is_no_handshake_is_refused_and_closed(
    raw: RawHttp, head: bytes, status: int, code: str
) -> None:
    await raw.send(head)
    await raw.refusal(status, code)


async def test_a_handshake_that_only_grows_is_refused(raw: RawHttp) -> None:
    await raw.send(WHOLE + b"X-Long: ")
    await raw.pour(b"x" * 4096, 1024 * 1024)
    assert (await raw.refusal(431, "head_too_large"))["limit"] == HEAD_MAX


async def test_a_socket_that_nobody_offers_is_not_found(url: str) -> None:
    raw = await RawHttp.open(url)
    await raw.send(WHOLE.replace(b"/v1/socket", b"/v1/nowhere") + b"\r\n")
    status, headers, _ = await raw.answer()
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    raw.close()


async def test_a_handshake_that_never_ends_is_given_up(raw: RawHttp) -> None:
    await raw.send(WHOLE)
    await raw.refusal(408, "too_slow", within_s=10)


async def test_connections_that_say_nothing_are_closed(raw: RawHttp, url: str) -> None:
    await raw.ends(within_s=10)
    idle = await RawHttp.open(url)
    await idle.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await idle.answer())[0] == 200
    await idle.ends(within_s=10)
    idle.close()
