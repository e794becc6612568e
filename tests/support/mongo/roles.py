"""What a scripted server says that it is: a mongod alone, a member of a replica set, or a mongos."""

from __future__ import annotations

import asyncio
import datetime
from typing import Protocol

from bson import Int64, ObjectId
from support.mongo.commands.call import Call
from support.mongo.errors import NOT_PRIMARY, CommandError, ErrorCode
from support.mongo.wire import Document

WIRE_VERSION = 21
"""Of MongoDB 7.0."""

READS = frozenset({"find", "aggregate", "count", "distinct", "listIndexes", "listCollections"})
WRITES = frozenset(
    {
        "insert",
        "update",
        "delete",
        "findAndModify",
        "findandmodify",
        "createIndexes",
        "dropIndexes",
        "create",
        "drop",
    }
    | {"dropDatabase"}
)


def _described() -> Document:
    """What every kind of server says in its hello."""
    return {
        "maxBsonObjectSize": 16 * 1024 * 1024,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "localTime": datetime.datetime.now(datetime.UTC),
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": False,
    }


class Role(Protocol):
    """One of the three."""

    is_mongos: bool

    def hello(self) -> Document:
        """What it says of itself."""

    def check(self, call: Call) -> None:
        """Refuse what a server of this kind does not do."""

    def amend(self, answer: Document) -> None:
        """What it adds to an answer."""

    async def awaited(self, command: Document) -> None:
        """Wait, if this hello wants to, until there is something new to say."""


class Standalone:
    """A mongod alone: no retryable writes, no linearizable reads."""

    is_mongos = False

    def hello(self) -> Document:
        return {"helloOk": True, "isWritablePrimary": True, "ismaster": True, **_described()}

    def check(self, call: Call) -> None:
        if "txnNumber" in call.command:
            raise CommandError(
                ErrorCode.ILLEGAL_OPERATION,
                "Transaction numbers are only allowed on a replica set member or mongos",
            )
        if call.command.get("readConcern", {}).get("level") == "linearizable":
            raise CommandError(
                ErrorCode.NOT_A_REPLICA_SET,
                "node needs to be a replica set member to use read concern",
            )

    def amend(self, answer: Document) -> None:
        return

    async def awaited(self, command: Document) -> None:
        return


class Mongos:
    """The router of a sharded cluster."""

    is_mongos = True

    def hello(self) -> Document:
        return {
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "msg": "isdbgrid",
            **_described(),
        }

    def check(self, call: Call) -> None:
        return

    def amend(self, answer: Document) -> None:
        return

    async def awaited(self, command: Document) -> None:
        return


class Election:
    """Who is primary in a replica set, and what its members tell about that."""

    def __init__(self, set_name: str) -> None:
        self.set_name = set_name
        self.hosts: list[str] = []
        self.primary: str | None = None
        self.term = 1
        self.version = 1
        """Grows with each change, so that a waiting hello knows that there is something new."""
        self._changed = asyncio.Event()

    def elect(self, host: str | None) -> None:
        """Another primary, or none: then writes are refused until there is one."""
        if host is not None:
            self.term += 1
        self.primary = host
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, known_version: int, within_s: float) -> None:
        """Until something is different from what is known, or time is over."""
        if known_version != self.version:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return


class Member:
    """One of a replica set: primary or secondary, as the election says."""

    is_mongos = False

    def __init__(self, election: Election, host: str) -> None:
        self.election = election
        self.host = host
        self.behind = datetime.timedelta()
        """How old what it has replicated says that it is; what is stored is everywhere all the same."""
        self._process_id = ObjectId()

    @property
    def is_primary(self) -> bool:
        return self.election.primary == self.host

    def hello(self) -> Document:
        primary = {} if self.election.primary is None else {"primary": self.election.primary}
        elected = {"electionId": ObjectId(f"{self.election.term:024x}")} if self.is_primary else {}
        written = datetime.datetime.now(datetime.UTC) - self.behind
        return {
            "helloOk": True,
            "lastWrite": {"lastWriteDate": written, "majorityWriteDate": written},
            "isWritablePrimary": self.is_primary,
            "ismaster": self.is_primary,
            "secondary": not self.is_primary,
            "setName": self.election.set_name,
            "setVersion": 1,
            "hosts": self.election.hosts,
            "me": self.host,
            "topologyVersion": self._topology_version(),
            **primary,
            **elected,
            **_described(),
        }

    def check(self, call: Call) -> None:
        """Writes go to the primary; reads too, unless they say that a secondary will do."""
        if self.is_primary:
            return
        if call.name in WRITES:
            raise CommandError(ErrorCode.NOT_WRITABLE_PRIMARY, "not primary")
        mode = call.command.get("$readPreference", {"mode": "primary"})["mode"]
        if call.name in READS and mode == "primary":
            raise CommandError(ErrorCode.NOT_PRIMARY_NO_SECONDARY_OK, "not primary and secondaryOk=false")

    def amend(self, answer: Document) -> None:
        """By the topology version a driver sees whether an error tells it something new."""
        if answer.get("code") in NOT_PRIMARY:
            answer["topologyVersion"] = self._topology_version()

    async def awaited(self, command: Document) -> None:
        known = command.get("topologyVersion")
        if known is not None and known["processId"] == self._process_id:
            await self.election.change(int(known["counter"]), command["maxAwaitTimeMS"] / 1000)

    def _topology_version(self) -> Document:
        return {"processId": self._process_id, "counter": Int64(self.election.version)}
