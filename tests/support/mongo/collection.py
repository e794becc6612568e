"""One collection in memory: documents in the order of insertion, and indexes of which only uniqueness matters."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from support.mongo.errors import CommandError, ErrorCode, duplicate_key
from support.mongo.updates import updated, upserted
from support.mongo.values import Order, elements, matches, order, sorted_by, values_at
from support.mongo.wire import Document

IDENTITY = "_id_"
NO_IDENTITY = object()
"""In place of an `_id` where a document has none."""

INDEX_OPTIONS = frozenset(
    {"unique", "sparse", "partialFilterExpression", "expireAfterSeconds", "collation", "hidden"}
)
"""What makes two indexes of one key different."""


@dataclass(slots=True)
class Index:
    """What was asked for, and, when unique, which document has each key."""

    spec: Document
    taken: dict[tuple[Order, ...], Order] = field(default_factory=dict)
    having: dict[Order, dict[Order, None]] = field(default_factory=dict)
    """By the value of the key's first field the identities of those that have it: what a find need not look at is
    all the others, or a long run would get slower and slower."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def key(self) -> Document:
        key: Document = self.spec["key"]
        return key

    @property
    def unique(self) -> bool:
        return bool(self.spec.get("unique")) or self.name == IDENTITY

    @property
    def options(self) -> Document:
        """With what the options of a later index of the same key are compared."""
        return {
            name: value for name, value in self.spec.items() if name in INDEX_OPTIONS and value is not False
        }

    def keys(self, document: Document) -> Iterable[tuple[Order, ...]]:
        """The document's keys: one, or one for each element of an array. What is missing counts as null."""
        fields = []
        for path in self.key:
            found = list(values_at(document, path)) or [None]
            fields.append([order(each) for value in found for each in elements(value)])
        return set(itertools.product(*fields))

    def note(self, document: Document) -> None:
        for first, *_ in self.keys(document):
            self.having.setdefault(first, {})[order(document["_id"])] = None

    def forget(self, document: Document) -> None:
        for first, *_ in self.keys(document):
            self.having[first].pop(order(document["_id"]), None)

    def candidates(self, filters: Mapping[str, Any]) -> dict[Order, None] | None:
        """The identities of all that the filter can mean, by what it says of the first field; None: of anything."""
        condition = filters.get(next(iter(self.key)), {})
        wanted = condition.get("$in") if isinstance(condition, dict) else [condition]
        if wanted is None or any(isinstance(each, dict | list) for each in wanted):
            return None
        return dict.fromkeys(each for one in wanted for each in self.having.get(order(one), ()))


@dataclass(frozen=True, slots=True)
class Updated:
    """What one update statement did."""

    matched: int = 0
    modified: int = 0
    upserted: object = None
    before: Document | None = None
    after: Document | None = None


class Collection:
    """Refuses what a unique index forbids; leaves no half of a change behind."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.documents: dict[Order, Document] = {}
        self.indexes = {IDENTITY: Index({"v": 2, "key": {"_id": 1}, "name": IDENTITY})}

    def find(self, filters: Mapping[str, Any]) -> list[Document]:
        """Those that the filter means, in the order of insertion."""
        looked_up = [index.candidates(filters) for index in self.indexes.values()]
        few = min((each for each in looked_up if each is not None), key=len, default=self.documents)
        documents = [self.documents[identity] for identity in few]
        if not documents:
            matches({}, filters)  # an operator that is not known is refused all the same
        return [each for each in documents if matches(each, filters)]

    def insert(self, document: Document) -> Document:
        """The document as stored: with an `_id`, and that first."""
        identity = document.get("_id", NO_IDENTITY)
        stored = {"_id": ObjectId() if identity is NO_IDENTITY else identity, **document}
        self._claim(stored)
        self.documents[order(stored["_id"])] = stored
        self._note(stored)
        return stored

    def update(
        self, filters: Document, update: Any, *, upsert: bool, multi: bool, sort: Document | None = None
    ) -> Updated:
        """One statement of an update, or a find-and-modify."""
        found = self.find(filters)
        if sort:
            found = sorted_by(found, sort)
        if not found and upsert:
            inserted = self.insert(upserted(filters, update))
            return Updated(upserted=inserted["_id"], after=inserted)
        modified = 0
        before = after = None
        chosen = found if multi else found[:1]
        for each in chosen:
            before, after = each, updated(each, update)
            if after != before:
                self._replace(before, after)
                modified += 1
        return Updated(matched=len(chosen), modified=modified, before=before, after=after)

    def delete(self, filters: Document, limit: int) -> list[Document]:
        """Those that are gone; a limit of 0 is none."""
        found = self.find(filters)
        chosen = found[:limit] if limit else found
        for each in chosen:
            self._release(each)
            self._forget(each)
            del self.documents[order(each["_id"])]
        return chosen

    def create_index(self, spec: Document) -> bool:
        """Whether there is a new index; the same again is none, and another of its name or key is refused."""
        index = Index({"v": 2, **copy.deepcopy(spec)})
        if self._has(index):
            return False
        if index.unique:
            for document in self.documents.values():
                self._claim_in(index, document)
        for document in self.documents.values():
            index.note(document)
        self.indexes[index.name] = index
        return True

    def _has(self, index: Index) -> bool:
        """Whether there is the same already; what only has its name or its key refuses it."""
        for present in self.indexes.values():
            same_key = list(present.key.items()) == list(index.key.items())
            same_name = present.name == index.name
            if same_key and (present.name == IDENTITY or (same_name and present.options == index.options)):
                return True
            if same_name:
                raise CommandError(
                    ErrorCode.INDEX_KEY_SPECS_CONFLICT,
                    f"An existing index has the same name as the requested index: {index.name}",
                )
            if same_key:
                raise CommandError(
                    ErrorCode.INDEX_OPTIONS_CONFLICT,
                    f"Index already exists with a different name or options: {present.name}",
                )
        return False

    def drop_index(self, name: str) -> None:
        if name == IDENTITY:
            raise CommandError(ErrorCode.INVALID_OPTIONS, "cannot drop _id index")
        if name not in self.indexes:
            raise CommandError(ErrorCode.INDEX_NOT_FOUND, f"index not found with name [{name}]")
        del self.indexes[name]

    def _replace(self, before: Document, after: Document) -> None:
        self._release(before)
        try:
            self._claim(after)
        except CommandError:
            self._claim(before)
            raise
        self._forget(before)
        self.documents[order(after["_id"])] = after
        self._note(after)

    def _note(self, document: Document) -> None:
        for index in self.indexes.values():
            index.note(document)

    def _forget(self, document: Document) -> None:
        for index in self.indexes.values():
            index.forget(document)

    def _claim(self, document: Document) -> None:
        """Take the document's keys in all unique indexes, or in none."""
        claimed: list[Index] = []
        try:
            for index in self.indexes.values():
                if index.unique:
                    self._claim_in(index, document)
                    claimed.append(index)
        except CommandError:
            for index in claimed:
                for key in index.keys(document):
                    del index.taken[key]
            raise

    def _claim_in(self, index: Index, document: Document) -> None:
        identity = order(document["_id"])
        keys = index.keys(document)
        for key in keys:
            if key in index.taken and (index.taken[key] != identity or index.name == IDENTITY):
                value = {path: next(iter(values_at(document, path)), None) for path in index.key}
                raise duplicate_key(self.namespace, index.name, index.key, value)
        for key in keys:
            index.taken[key] = identity

    def _release(self, document: Document) -> None:
        for index in self.indexes.values():
            if index.unique:
                for key in index.keys(document):
                    index.taken.pop(key, None)
