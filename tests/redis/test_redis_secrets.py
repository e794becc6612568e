"""Redis by TLS, and as a user who may do no more than needed; and that no password is ever said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.redis_servers import REDIS_7, VALKEY, Server, cluster_servers, one_server, sentinels
from support.redis_usage import use_everything
from support.valkey import eventually, free_port, redis_client

from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute

PASSWORD = "p@ss/wörd#1"
QUOTED = "p%40ss%2Fw%C3%B6rd%231"

RIGHTS = "+@read +@write -@dangerous -scan -randomkey -@connection +auth +hello +ping +select +asking +client|setname +eval +evalsha +time +info +role +cluster|info +cluster|slots"  # noqa: E501
"""What docs/redis.md says a user needs."""


@pytest.fixture(params=[VALKEY, REDIS_7], ids=["valkey", "redis_7"])
def closed(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Server]:
    """A server that lets in nobody but a user of our prefix."""
    if request.param is None:
        pytest.skip("no Redis 7 on this machine: Debian's package redis-tools has it")
    with one_server(request.param) as server:
        server.do("ACL", "SETUSER", "chat", "reset", "on", f">{PASSWORD}", f"~{keys.base}*", *RIGHTS.split())
        server.do("ACL", "SETUSER", "default", "off", "nopass")
        yield server


async def test_a_user_who_may_touch_only_our_prefix_can_do_everything_we_do(
    closed: Server, keys: Keys
) -> None:
    async with redis_client(f"redis://chat:{QUOTED}@127.0.0.1:{closed.port}") as redis:
        await use_everything(redis, keys)
        await execute(redis, [("INFO", "server"), ("PING",)])
        for refused in (
            *(("GET", "another"), ("FLUSHALL",), ("CONFIG", "GET", "*")),
            *(("KEYS", "*"), ("SCAN", 0), ("RANDOMKEY",)),
            *(("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "PAUSE", 10)),
        ):
            with pytest.raises(ChatError):
                await execute(redis, [refused])


@pytest.mark.parametrize("userinfo", ["", f"chat:not-{QUOTED}@", f"nobody:{QUOTED}@"])
async def test_who_is_not_let_in_is_told_so_without_a_password(
    closed: Server, userinfo: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with redis_client(f"redis://{userinfo}127.0.0.1:{closed.port}") as redis:
        with pytest.raises(ChatError) as caught:
            await execute(redis, [("PING",)])
    assert caught.value.code is Code.REDIS_UNAVAILABLE
    said = f"{caught.value} {caught.value.__cause__!r} {caplog.text}"
    assert PASSWORD not in said and QUOTED not in said


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, server.pem and server.key for 127.0.0.1."""
    place = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)

    def made(
        name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
    ) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(name == "ca", None), critical=True)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    (place / "ca.pem").write_bytes(made("ca", issuer, ca, ca))
    (place / "server.pem").write_bytes(made("server", issuer, server, ca))
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "server.key").write_bytes(server.private_bytes(serialization.Encoding.PEM, *private))
    return place


def tls_options(certificates: Path) -> dict[str, object]:
    return {
        "tls-ca-cert-file": certificates / "ca.pem",
        "tls-cert-file": certificates / "server.pem",
        "tls-key-file": certificates / "server.key",
    }


@pytest.mark.skipif(
    REDIS_7 is None, reason="the packaged Valkey has no TLS: Debian's package redis-tools has"
)
async def test_by_tls_with_the_clients_certificate_and_nobody_else(certificates: Path, keys: Keys) -> None:
    assert REDIS_7 is not None
    port, ca = free_port(), certificates / "ca.pem"
    with one_server(REDIS_7, tls_port=port, **tls_options(certificates)):
        ours = f"ssl_certfile={certificates / 'server.pem'}&ssl_keyfile={certificates / 'server.key'}"
        async with redis_client(f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca}&{ours}") as redis:
            await use_everything(redis, keys)
            large = b"x" * 3_000_000
            assert await execute(redis, [("SET", keys.limit("l"), large), ("GET", keys.limit("l"))]) == [
                b"OK",
                large,
            ]
        for url in (
            f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca}",  # without a certificate of its own
            f"rediss://127.0.0.1:{port}?{ours}",  # an authority that nobody knows
            f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca}.missing&{ours}",
            f"redis://127.0.0.1:{port}",  # not by TLS
        ):
            async with redis_client(url) as redis:
                assert await refused(redis)


async def refused(redis: Redis) -> bool:
    with pytest.raises(ChatError) as caught:
        await execute(redis, [("PING",)])
    return caught.value.code is Code.REDIS_UNAVAILABLE


@pytest.mark.skipif(
    REDIS_7 is None, reason="the packaged Valkey has no TLS: Debian's package redis-tools has"
)
async def test_a_cluster_by_tls_throughout(certificates: Path, keys: Keys) -> None:
    assert REDIS_7 is not None
    with cluster_servers(REDIS_7, primaries=2, replicas=0, tls=tls_options(certificates)) as nodes:
        async with redis_client(f"{nodes.url}?ssl_ca_certs={certificates / 'ca.pem'}") as redis:
            await use_everything(redis, keys)


@pytest.mark.stores
@pytest.mark.skipif(
    REDIS_7 is None, reason="the packaged Valkey has no TLS: Debian's package redis-tools has"
)
async def test_under_sentinels_by_tls_throughout_with_a_password_of_their_own(
    certificates: Path, keys: Keys
) -> None:
    assert REDIS_7 is not None
    tls = tls_options(certificates)
    with sentinels(REDIS_7, tls=tls, password=PASSWORD, sentinel_password="s@nt#nel") as servers:
        ca, theirs = f"ssl_ca_certs={certificates / 'ca.pem'}", "sentinel_password=s%40nt%23nel"
        inside = servers.url.replace("://", f"://:{QUOTED}@")
        async with redis_client(f"{inside}?{ca}&{theirs}") as redis:
            await use_everything(redis, keys)
            old = servers.primary()
            old.kill()

            async def works_again() -> bool:
                try:
                    return await execute(redis, [("SET", keys.limit("k"), "1")]) == [b"OK"]
                except ChatError:
                    return False

            await eventually(works_again, 20.0)
            assert servers.primary() is not old
        for url in (
            f"{inside}?{ca}",  # nothing for the Sentinels
            f"{inside}?{ca}&sentinel_password={QUOTED}",
            f"{servers.url}?{ca}&{theirs}",  # nothing for the primary
            f"{inside}?{theirs}",  # an authority that nobody knows
            f"{inside.replace('rediss+', 'redis+')}?{theirs}",  # not by TLS
        ):
            async with redis_client(url) as redis:
                assert await refused(redis)
