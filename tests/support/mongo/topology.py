"""Deployments of scripted servers: a replica set whose members share one store, and a mongos with its shards."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.mongo.login import Users
from support.mongo.roles import Election, Member, Mongos
from support.mongo.scripted import ScriptedServer, scripted_server
from support.mongo.store import Store


class ReplicaSet:
    """Members that share one store: what was stored is everywhere, and only roles change in a failover."""

    def __init__(self, members: list[ScriptedServer], election: Election, store: Store) -> None:
        self.members = members
        self.election = election
        self.store = store

    @property
    def url(self) -> str:
        return f"mongodb://{','.join(self.election.hosts)}/?replicaSet={self.election.set_name}"

    @property
    def primary(self) -> ScriptedServer:
        """The primary; fails when there is none."""
        return next(each for each in self.members if each.host == self.election.primary)

    @property
    def secondaries(self) -> list[ScriptedServer]:
        return [each for each in self.members if each.host != self.election.primary]

    def step_down(self) -> None:
        """The primary becomes a secondary, and the next member the primary."""
        self.election.elect(self.secondaries[0].host)

    def without_primary(self) -> None:
        """No primary, until `elect`: writes are refused, reads of secondaries go on."""
        self.election.elect(None)

    def elect(self, member: ScriptedServer) -> None:
        self.election.elect(member.host)

    async def fail_over(self) -> None:
        """The primary is killed, and the next member elected."""
        killed = self.primary
        successor = self.secondaries[0]
        await killed.stop()
        self.elect(successor)


@asynccontextmanager
async def replica_set(
    *, members: int = 2, users: Users | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ReplicaSet]:
    """A replica set in the test's own loop; its first member is primary."""
    store = Store()
    election = Election("scripted")
    servers = [ScriptedServer(store=store, users=users, tls=tls) for _ in range(members)]
    try:
        for server in servers:
            await server.start()
            server.role = Member(election, server.host)
        election.hosts = [server.host for server in servers]
        election.elect(servers[0].host)
        yield ReplicaSet(servers, election, store)
    finally:
        for server in servers:
            await server.stop()
    for server in servers:
        server.check()


@asynccontextmanager
async def mongos(
    *,
    shards: tuple[str, ...] = ("shard01", "shard02"),
    users: Users | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ScriptedServer]:
    """A mongos in the test's own loop. Its shards are names: all is stored in one place."""
    store = Store()
    for number, name in enumerate(shards, start=1):
        described = {"_id": name, "host": f"{name}/db{number}.example:27018", "state": 1, "tags": []}
        store.collection("config.shards").insert(described)
    async with scripted_server(role=Mongos(), store=store, users=users, tls=tls) as server:
        yield server
