"""The objects of one kind as last heard of, found by name and by the cluster that they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chatoperator.kube.kinds import Kind, Object, labels_of, name_of, namespace_of, version_of
from chatoperator.manifests.names import LABEL_CLUSTER

Key = tuple[str, str]
"""Namespace and name."""

GONE_KEPT = 1000
"""Objects of which it is remembered that they were deleted: more than answers can be under way about."""

Changed = Callable[[Kind, Object], None]
"""Called with an object that came, changed or went, as it is now or was last."""


def _nobody(kind: Kind, changed: Object) -> None:
    """Nobody is told."""


class Store:
    """Holds what watches bring and what the operator's own writes have returned, whichever is newer.

    So a pod that was just created is seen before the watch shows it, and a list that was taken before it was created
    does not take it away: resource versions tell. An answer that comes after the watch has told that the object is no
    more does not bring it back: what has no node yet goes at once when it is deleted, and both are about that.
    """

    def __init__(self, kind: Kind, trim: Callable[[Object], Object] = lambda whole: whole) -> None:
        self.kind = kind
        self.changed: Changed = _nobody
        self._trim = trim
        self._objects: dict[Key, Object] = {}
        self._of: dict[Key, set[str]] = {}
        """Names by namespace and cluster."""
        self._gone: dict[Key, int] = {}
        """When they went, the last one last."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def all(self) -> Iterable[Object]:
        return self._objects.values()

    def of(self, namespace: str, cluster: str) -> list[Object]:
        """Those with the cluster's label, by name."""
        names = self._of.get((namespace, cluster), ())
        return [self._objects[namespace, name] for name in sorted(names)]

    def put(self, whole: Object) -> None:
        """What is older than what is here is no news."""
        key = (namespace_of(whole), name_of(whole))
        before = self._objects.get(key)
        known = self._gone.get(key, 0) if before is None else version_of(before)
        if known >= version_of(whole):
            return
        if before is not None:
            self._unlink(key, before)
        now = self._objects[key] = self._trim(whole)
        cluster = labels_of(now).get(LABEL_CLUSTER)
        if cluster:
            self._of.setdefault((key[0], cluster), set()).add(key[1])
        self.changed(self.kind, now)

    def drop(self, namespace: str, name: str, at_version: int) -> None:
        """It was deleted. Not if what is here is newer: then another has the name by now."""
        key = (namespace, name)
        before = self._objects.get(key)
        if before is not None and version_of(before) > at_version:
            return
        self._gone.pop(key, None)
        self._gone[key] = at_version
        if len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        if before is not None:
            self._forget(key, before)

    def replace(self, namespace: str, listed: Iterable[Object], at_version: int) -> None:
        """By a list of that namespace ("": all) as it was at a resource version."""
        found = set()
        for whole in listed:
            found.add((namespace_of(whole), name_of(whole)))
            self.put(whole)
        gone = [key for key in self._objects if namespace in ("", key[0]) and key not in found]
        for key in gone:
            self.drop(*key, at_version)

    def clear(self, namespace: str) -> None:
        """Nothing is known any more of what is in that namespace ("": in all)."""
        for key, before in [item for item in self._objects.items() if namespace in ("", item[0][0])]:
            self._forget(key, before)

    def _forget(self, key: Key, before: Object) -> None:
        del self._objects[key]
        self._unlink(key, before)
        self.changed(self.kind, before)

    def _unlink(self, key: Key, whole: Object) -> None:
        cluster = labels_of(whole).get(LABEL_CLUSTER, "")
        names = self._of.get((key[0], cluster))
        if names is not None:
            names.discard(key[1])
            if not names:
                del self._of[key[0], cluster]
