"""Which ports Redis and the stores are reached at, for NetworkPolicies."""

from __future__ import annotations


def redis_ports(url: str) -> tuple[int, ...]:
    """Empty: any, since Sentinels and clusters tell their servers' addresses themselves. Raises RedisUrlError."""
    raise NotImplementedError


def store_ports(url: str) -> tuple[int, ...]:
    """Empty: any, since the servers of a MongoDB tell each other's addresses themselves."""
    raise NotImplementedError
