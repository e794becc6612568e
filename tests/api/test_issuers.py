"""Tokens of the user's own issuer, against a real JWKS server."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from apipod.issuers import Issuers, username_from
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.settings import Issuer

KEYS = {
    "rsa": ("RS256", rsa.generate_private_key(65537, 2048)),
    "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}


class JwksServer:
    """Serves the public halves of the keys it is told to, and counts who asks."""

    def __init__(self):
        self.kids, self.requests, self.broken = ["rsa", "ec", "ed"], 0, False

    async def handle(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        keys = []
        for kid in self.kids:
            algorithm, key = KEYS[kid]
            to_jwk = jwt.get_algorithm_by_name(algorithm).to_jwk
            keys.append({**json.loads(to_jwk(key.public_key())), "kid": kid, "alg": algorithm, "use": "sig"})
        body = b"<html>" if self.broken else json.dumps({"keys": keys}).encode()
        status = b"500 Oops" if self.broken else b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)
        )
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
        try:
            yield self
        finally:
            server.close()


class Clock:
    s = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
async def jwks():
    async with JwksServer().running() as server:
        yield server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def issuers(jwks, clock):
    made = Issuers(
        [Issuer("https://id.example", jwks.url, "chat")], httpx.AsyncClient(trust_env=False), now_ms, clock
    )
    yield made
    await made.aclose()


def token(kid="rsa", algorithm=None, key=None, header_kid=None, **claims):
    usual, private = KEYS[kid]
    body = {
        "iss": "https://id.example",
        "aud": "chat",
        "sub": "person-1",
        "exp": time.time() + 300,
        "preferred_username": "Anna.Ö@corp",
        "name": "Anna",
        **claims,
    }
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, key or private, algorithm or usual, headers={"kid": header_kid or kid})


async def verify(issuers, one):
    return await issuers.verify(one, jwt.get_unverified_header(one))


async def refusal(issuers, one):
    with pytest.raises(ChatError) as caught:
        await verify(issuers, one)
    return caught.value.code


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_each_algorithm_is_accepted_and_keys_are_fetched_once(issuers, jwks, kid):
    subject = await verify(issuers, token(kid))
    assert (subject.subject, subject.username, subject.display_name) == ("person-1", "anna.o", "Anna")
    await verify(issuers, token(kid, sub="person-2"))
    assert jwks.requests == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"iss": "https://evil.example"},
        {"sub": None},
        {"exp": None},
        {"aud": None},
        {"iss": None},
        {"nbf": time.time() + 300},
        {"sub": ""},
        {"sub": "x" * 300},
    ],
)
async def test_wrong_claims_are_refused(issuers, claims):
    assert await refusal(issuers, token(**claims)) is Code.UNAUTHENTICATED


async def test_an_expired_token_is_told_so(issuers):
    assert await refusal(issuers, token(exp=time.time() - 60)) is Code.TOKEN_EXPIRED


async def test_other_algorithms_and_keys_are_refused(issuers):
    assert await refusal(issuers, token(algorithm="RS512")) is Code.UNAUTHENTICATED
    assert await refusal(issuers, token(algorithm="HS256", key="s" * 64)) is Code.UNAUTHENTICATED
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert await refusal(issuers, token("ec", key=stranger)) is Code.UNAUTHENTICATED
    assert await refusal(issuers, token("rsa", header_kid="ec")) is Code.UNAUTHENTICATED


async def test_a_new_key_is_found_at_once_and_invented_ones_do_not_storm_the_issuer(issuers, jwks, clock):
    jwks.kids = ["rsa"]
    await verify(issuers, token("rsa"))
    jwks.kids = ["rsa", "ec"]
    clock.s += 10.1
    await verify(issuers, token("ec"))
    assert jwks.requests == 2
    for number in range(20):
        assert await refusal(issuers, token(header_kid=f"invented-{number}")) is Code.UNAUTHENTICATED
    assert jwks.requests == 2


async def test_known_keys_outlive_an_issuer_that_is_down(issuers, jwks, clock):
    await verify(issuers, token())
    jwks.broken = True
    clock.s += 301
    await verify(issuers, token())
    assert jwks.requests == 2
    await verify(issuers, token())
    assert jwks.requests == 2


async def test_without_any_keys_the_client_is_told_to_come_back(issuers, jwks):
    jwks.broken = True
    assert await refusal(issuers, token()) is Code.BUSY


async def test_waiting_requests_share_one_fetch(issuers, jwks):
    await asyncio.gather(*(verify(issuers, token(sub=f"p{n}")) for n in range(10)))
    assert jwks.requests == 1


def test_user_names_are_made_to_fit():
    assert username_from("Anna@corp", "i", "s") == "anna"
    assert username_from("日本", "i", "s").startswith("user-")
    assert len(username_from("x" * 200, "i", "s")) <= 32
