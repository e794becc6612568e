"""The commands that the scripted server knows, by name. It has no others: an unknown one is refused as documented."""

from __future__ import annotations

from support.mongo.commands import catalog, reads, session, sharding, writes
from support.mongo.commands.call import Handler

COMMANDS: dict[str, Handler] = (
    session.COMMANDS | reads.COMMANDS | writes.COMMANDS | catalog.COMMANDS | sharding.COMMANDS
)
