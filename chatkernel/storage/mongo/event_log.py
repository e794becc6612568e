"""The port EventLog on MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pymongo
from pymongo import InsertOne
from pymongo.errors import BulkWriteError

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Event, HistoryItem
from chatkernel.storage.model import EventRange, Head, HistoryPage, InsertOutcome, PageQuery, Run, SendKey
from chatkernel.storage.mongo import history
from chatkernel.storage.mongo.announcing import Names
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import document_of
from chatkernel.storage.mongo.effects import EFFECTIVE_KINDS, Effects
from chatkernel.storage.mongo.errors import LOST_RACE, translated
from chatkernel.storage.mongo.head_audit import HeadAudit
from chatkernel.storage.mongo.trailing import Trail

STORED, REFUSED = InsertOutcome.STORED, InsertOutcome.REFUSED


class MongoEventLog:
    _collections: Collections
    _history: Collections
    _trail: Trail
    _effects: Effects
    _audit: HeadAudit

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        """Runs of one event in one unordered insert; a longer run, or several of one channel, in an ordered insert
        that stops at the first refusal. Without transactions the beginning of a refused run may be stored: who is
        told REFUSED asks what there is anyway."""
        by_channel: dict[str, list[int]] = {}
        for number, run in enumerate(runs):
            by_channel.setdefault(run.channel_id, []).append(number)
        singles = [
            numbers[0]
            for numbers in by_channel.values()
            if len(numbers) == 1 and len(runs[numbers[0]].events) == 1
        ]
        alone = set(singles)
        outcomes: list[InsertOutcome] = [REFUSED] * len(runs)
        with translated():
            names = await self._effects.announcing.announce(runs)
            parts: list[Any] = []
            if singles:
                parts.append(self._insert_singles(runs, singles, names, outcomes))
            parts += [
                self._insert_in_turn(runs, numbers, names, outcomes)
                for numbers in by_channel.values()
                if numbers[0] not in alone
            ]
            try:
                for each in await asyncio.gather(*parts, return_exceptions=True):
                    if isinstance(each, BaseException):
                        raise each
            except BaseException:  # who waited may have given up, too
                self._effects.announcing.failed(names)
                raise
        return outcomes

    async def _insert_singles(
        self, runs: Sequence[Run], numbers: Sequence[int], names: Names, outcomes: list[InsertOutcome]
    ) -> None:
        refused = await self._write([(runs[n], runs[n].events[0]) for n in numbers], ordered=False)
        for place, number in enumerate(numbers):
            if place not in refused:
                outcomes[number] = STORED
        channels = {runs[n].channel_id for n in numbers}
        await self._follow(channels, [runs[n] for n in numbers if outcomes[n] is STORED], names)

    async def _insert_in_turn(
        self, runs: Sequence[Run], numbers: Sequence[int], names: Names, outcomes: list[InsertOutcome]
    ) -> None:
        """After a refusal nothing of this channel is stored: it would stand on what is not there."""
        pairs = [(runs[n], event) for n in numbers for event in runs[n].events]
        refused = await self._write(pairs, ordered=True)
        stored = min(refused, default=len(pairs))
        kept: list[Run] = []
        for number in numbers:
            run = runs[number]
            if stored >= len(run.events):
                outcomes[number] = STORED
                kept.append(run)
            elif stored > 0:
                kept.append(Run(run.channel_id, run.events[:stored], run.channel))
            stored = max(0, stored - len(run.events))
        await self._follow({runs[numbers[0]].channel_id}, kept, names)

    async def _write(self, pairs: Sequence[tuple[Run, Event]], *, ordered: bool) -> set[int]:
        """Insert; the places that a unique key refused. Raises PyMongoError, ChatError."""
        documents = [
            document_of(event, run.channel if event is run.events[0] else None) for run, event in pairs
        ]
        try:
            await self._collections.events.bulk_write(
                [InsertOne(document) for document in documents], ordered=ordered
            )
        except BulkWriteError as error:
            details = error.details
            errors = details.get("writeErrors") or []
            others = [each for each in errors if each["code"] not in LOST_RACE]
            if others or details.get("writeConcernErrors"):
                # What was stored is unknown, or not durable yet.
                codes = sorted({each["code"] for each in others}) or ["write concern"]
                full = any(each["code"] == 14031 for each in others)
                raise ChatError(
                    Code.STORAGE_FULL if full else Code.STORAGE_UNAVAILABLE,
                    f"The store did not take the events ({', '.join(map(str, codes))})",
                ) from error
            return {each["index"] for each in errors}
        return set()

    async def _follow(self, channels: set[str], runs: Sequence[Run], names: Names) -> None:
        """What follows from stored events; `channels` are theirs and those of refused ones."""
        self._trail.note([event for run in runs for event in run.events])
        mine = {channel_id: names[channel_id] for channel_id in channels if channel_id in names}
        await self._effects.apply(runs, mine)

    async def heads(self, channel_ids: Sequence[str], *, within_s: float | None = None) -> dict[str, Head]:
        with translated(), nullcontext() if within_s is None else pymongo.timeout(within_s):
            found = await history.heads(self._collections, channel_ids)
        self._audit.saw(found)
        return found

    async def find_sent(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        """Whoever asks does not know what became of these: what follows from them is made sure of."""
        with translated():
            found = await history.find_sent(self._collections, keys)
            self._trail.note(list(found.values()))
            await self._effects.make_sure(found.values(), EFFECTIVE_KINDS, must=True)
            return found

    async def message_ids(
        self, places: Sequence[tuple[str, int]], *, as_of_now: bool = False
    ) -> dict[str, int]:
        read = history.message_ids_now if as_of_now else history.message_ids
        with translated():
            return await read(self._collections, places)

    async def events(self, ranges: Sequence[EventRange]) -> list[list[Event]]:
        with translated():
            found = await history.events_in(self._collections, ranges)
            if await self._effects.make_sure([event for events in found for event in events]):
                found = await history.events_in(self._collections, ranges)
            return found

    async def page(self, query: PageQuery) -> HistoryPage:
        with translated():
            return await history.page(self._history, query, primary=self._collections)

    async def message(self, channel_id: str, message_id: int) -> HistoryItem | None:
        with translated():
            return await history.message(self._collections, channel_id, message_id)
