"""Broken: discovery asks neither for a pod's state nor for its revision, its lease or the operator's word."""

from __future__ import annotations

from collections.abc import Mapping

from switch import is_on

import apipod.discovery
from chatkernel.registry import PodEntry, Snapshot


def install() -> None:
    real = apipod.discovery.rank

    def rank(snapshot: Snapshot, region: str, recent: Mapping[str, float]) -> list[PodEntry]:
        if is_on(__name__):
            return sorted([*snapshot.entries, *snapshot.expired], key=lambda entry: entry.connections)
        return real(snapshot, region, recent)

    apipod.discovery.rank = rank
