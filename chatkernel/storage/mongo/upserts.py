"""Writes that may meet the same writes of others."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult

from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import lost_races


async def write_again(
    collection: AsyncCollection[Document], writes: Sequence[UpdateOne], *, ordered: bool = False
) -> BulkWriteResult:
    """Idempotent updates in one command. Of two upserts that insert at once one wins, and the other finds its
    document when it is written again. Raises PyMongoError."""
    try:
        return await collection.bulk_write(writes, ordered=ordered)
    except BulkWriteError as error:
        if not lost_races(error):
            raise
    return await collection.bulk_write(writes, ordered=ordered)
