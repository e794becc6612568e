"""Servers as URLs name them: host and port."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def addresses_of(hosts: str, default_port: int) -> tuple[Address, ...]:
    """Of a list with commas. Raises ValueError, which quotes nothing of it."""
    return tuple(_address(host, default_port) for host in hosts.split(","))


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    host = unquote(host.removeprefix("[").removesuffix("]"))
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("must name hosts as host:port")
    return Address(host, int(port))
