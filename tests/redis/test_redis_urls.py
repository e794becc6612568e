"""URLs of Redis: what they mean, and that what is wrong with one is said without what is secret in it."""

from __future__ import annotations

import pytest

from chatkernel.addresses import Address
from chatkernel.redis_client import connect
from chatkernel.redis_url import RedisUrlError, Topology, parse_redis_url

SECRET = "hunter2"


def test_one_server_with_user_database_and_tls() -> None:
    url = parse_redis_url(f"rediss://ann:{SECRET}@redis.example:7000/3?ssl_ca_certs=/ca.pem")
    assert (url.topology, url.tls, url.hosts) == (Topology.ONE, True, (Address("redis.example", 7000),))
    assert url.server_at(url.hosts[0]) == f"rediss://ann:{SECRET}@redis.example:7000/3?ssl_ca_certs=%2Fca.pem"
    assert parse_redis_url("redis://localhost").hosts == (Address("localhost", 6379),)


def test_a_unix_socket() -> None:
    url = parse_redis_url(f"unix://:{SECRET}@/run/redis.sock?db=2")
    assert (url.path, url.hosts, url.db) == ("/run/redis.sock", (), 2)
    assert url.server_at(None) == f"unix://:{SECRET}@/run/redis.sock?db=2"
    assert url.shown == "/run/redis.sock"


def test_sentinels_with_the_service_and_passwords_for_both_kinds() -> None:
    url = parse_redis_url(
        f"redis+sentinel://ann:{SECRET}@s1,s2:5000,[::1]:26379/my%20chat/4?sentinel_password=p%40ss&client_name=chat"
    )
    assert url.topology is Topology.SENTINEL
    assert url.hosts == (Address("s1", 26379), Address("s2", 5000), Address("::1", 26379))
    assert url.service == "my chat"
    assert url.server_at(Address("db", 6380)) == f"redis://ann:{SECRET}@db:6380/4?client_name=chat"
    assert url.sentinel_at(Address("s1", 26379)) == "redis://:p%40ss@s1:26379/0"


def test_a_cluster_by_tls() -> None:
    url = parse_redis_url("rediss+cluster://ann:x@n1:7000,n2?ssl_cert_reqs=none")
    assert (url.topology, url.tls) == (Topology.CLUSTER, True)
    assert url.hosts == (Address("n1", 7000), Address("n2", 6379))
    assert url.server_at(Address("::1", 7000)) == "rediss://ann:x@[::1]:7000/0?ssl_cert_reqs=none"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"mysql://:{SECRET}@db", "must start with redis://"),
        (SECRET, "must start with redis://"),
        (f"redis://:{SECRET}@", "must name hosts"),
        (f"redis://:{SECRET}@db:port", "must name hosts"),
        (f"redis://:{SECRET}@db:0", "must name hosts"),
        (f"redis://:{SECRET}@db:6379/zero", "must name the database by its number"),
        (f"redis://:{SECRET}@a,b", "names several hosts"),
        (f"redis://ann:12#{SECRET}@db", "holds a # or @"),
        (f"redis://ann:12/{SECRET}@db", "holds a # or @"),
        (f"redis://ann:12?{SECRET}=1@db", "holds a # or @"),
        (f"redis://:{SECRET}@db?ssl_ca_certs=x", "option"),
        (f"redis://db?password_is={SECRET}", "option"),
        (f"redis://[{SECRET}@db", "is not a URL"),
        (f"redis+sentinel://:{SECRET}@s1,s2", "must name what the Sentinels watch"),
        (f"redis+sentinel://:{SECRET}@s1/chat/x", "must name the database by its number"),
        (f"redis+cluster://:{SECRET}@n1/1", "a cluster has only 0"),
        (f"redis+cluster://:{SECRET}@n1,,n2", "must name hosts"),
        (f"unix://:{SECRET}@", "must name a socket"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_reason_and_without_the_secret(
    url: str, why: str
) -> None:
    with pytest.raises(RedisUrlError, match=why) as caught:
        connect(url)
    assert SECRET not in str(caught.value)


def test_what_is_shown_of_a_url_holds_no_secret() -> None:
    for text in (
        f"redis://ann:{SECRET}@db:7000/3",
        f"redis+sentinel://ann:{SECRET}@s1,s2/chat?sentinel_password={SECRET}",
        f"redis+cluster://ann:{SECRET}@n1,n2",
    ):
        url = parse_redis_url(text)
        assert SECRET not in f"{url} {url!r} {url.shown}"
        assert all(str(address) in url.shown for address in url.hosts)
