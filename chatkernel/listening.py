"""The socket that a service listens on."""

from __future__ import annotations

import os
import socket

from chatkernel.settings import ANY_ADDRESS

PROXIES_ENV = "FORWARDED_ALLOW_IPS"
"""The environment variable that names the proxies whose `X-Forwarded-For` is believed: addresses and networks, by
commas (uvicorn reads it)."""

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - what a pod is reached by, it does not choose


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bound and not yet listening: from then on the system would give it a share of the connections, which would wait
    for a service that still starts. ANY_ADDRESS takes both kinds of addresses, or the one kind that there is.

    `shared`: a successor may open it as well, so that it takes over before this process stops. Raises OSError.
    """
    if host == ANY_ADDRESS and not socket.has_dualstack_ipv6():
        host = ANY_IPV4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if host == ANY_ADDRESS:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def believes_proxies() -> bool:
    """Only those that somebody has named: uvicorn alone would believe every process of this machine."""
    return PROXIES_ENV in os.environ
