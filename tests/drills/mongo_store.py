"""What happens to MongoDB: to mongo-java-server, or on the way to the deployment that MONGODB_URI names, or to the
scripted server. What can be done to none but the last, however it is reached, is in `mongo_scripted`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support.mongo import java_build
from support.mongo.chosen import VARIABLE, MongoKind, chosen, hosts, one_host, with_database, with_host
from support.mongo.java_server import java_server
from support.mongo.topology import replica_set
from support.wires import MongoWire, Wire, wire_to

from drills.breaking import ERRORS_S, FREEZE_S, ONE_IN, Broken, done, of_wire, start_failing, stop_failing
from drills.mongo_scripted import FAULTS
from drills.store_fault import StoreFault, StoreUnderTest


@asynccontextmanager
async def mongo() -> AsyncIterator[StoreUnderTest]:
    """Raises NoJava where there can be none."""
    kind, why = chosen().kind, "it is one server, in memory"
    match kind:
        case MongoKind.URI:
            which, why = _of_yours(os.environ[VARIABLE]), "it is not ours to break"
        case MongoKind.SCRIPTED:
            which = _scripted()
        case _:
            which = _java()
    async with which as store:
        print(
            f"NOT DRILLED on this one: {', '.join(FAULTS)}, since {why}; mongo-scripted has them", flush=True
        )
        yield store


@asynccontextmanager
async def _java() -> AsyncIterator[StoreUnderTest]:
    with java_server() as server:
        async with wire_to(server.port, MongoWire) as wire:
            url = with_database(f"mongodb://127.0.0.1:{wire.port}/", _fresh())
            faults = _faults(wire, done(server.freeze, server.thaw))
            yield StoreUnderTest("mongo", f"mongo-java-server {java_build.version()}", url, faults)


@asynccontextmanager
async def _scripted() -> AsyncIterator[StoreUnderTest]:
    async with (
        replica_set(members=1) as replicas,
        wire_to(replicas.primary.port, MongoWire) as wire,
    ):
        url = with_host(with_database(replicas.url, _fresh()), f"127.0.0.1:{wire.port}")
        faults = _faults(wire, done(replicas.primary.freeze, replicas.primary.thaw))
        yield StoreUnderTest("mongo", "the scripted server", url, faults)


@asynccontextmanager
async def _of_yours(uri: str) -> AsyncIterator[StoreUnderTest]:
    """It is not ours to break, but the way to it is, where that is one way. Several hosts tell their clients of each
    other, and what is encrypted cannot be answered for them."""
    url, place, words = with_database(uri, _fresh()), one_host(uri), f"{VARIABLE} {hosts(uri)}"
    try:
        if place is None:
            why = "several hosts, SRV, TLS or compression"
            yield StoreUnderTest("mongo", f"{words}: {why}, so only pods are broken", url, [])
            return
        host, port = place
        async with wire_to(port, MongoWire, host) as wire:
            faults = _faults(wire, done(wire.freeze, wire.thaw))
            by_wire = with_host(url, f"127.0.0.1:{wire.port}")
            yield StoreUnderTest("mongo", f"{words}, broken on the way to it", by_wire, faults)
    finally:
        await asyncio.to_thread(_drop, url)


def _faults(wire: Wire, frozen: Broken) -> list[StoreFault]:
    failing = done(lambda: start_failing(wire, ONE_IN), lambda: stop_failing(wire))
    return [
        StoreFault("freeze", FREEZE_S, frozen, stops=True),
        StoreFault("errors", ERRORS_S, failing),
        *of_wire(wire),
    ]


def _fresh() -> str:
    return f"drill_{secrets.token_hex(4)}"


def _drop(url: str) -> None:
    try:
        with MongoClient[dict[str, Any]](url) as client:
            client.drop_database(client.get_default_database())
    except PyMongoError as error:
        name = url.partition("?")[0].rpartition("/")[2]
        print(f"the database {name} is left there: {type(error).__name__}", flush=True)
