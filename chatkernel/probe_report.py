"""What the prober tells of the pods, and the operator reads (`GET /statz` of the prober)."""

from __future__ import annotations

from msgspec import Struct


class PodReport(Struct, frozen=True):
    """Of one chat pod of which something is known. `failing_since` (Unix ms): since when it loses what it should
    deliver; there when it is not `ok`. `p99_ms`: of what came through it in the last minute."""

    ok: bool
    failing_since: int | None = None
    p99_ms: float | None = None


class ProbeReport(Struct, frozen=True):
    """`checked_at` (Unix ms): when a delivery was last judged; 0: never. `p50_ms`, `p99_ms`: from a send to its
    arrival at another connection, in the last minute. `gaps`: arrivals of the last 15 s that did not come in time.
    `discovery_ok`: a seat was given, and it carried a message; None while that is not known.

    `pods`: those of which nothing is known, being new or for want of Redis or the store, are left out. `unknown`: why
    nothing is being learned (`store`, `redis`: they do not answer; `starting`)."""

    checked_at: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    gaps: int = 0
    discovery_ok: bool | None = None
    pods: dict[str, PodReport] = {}
    unknown: list[str] = []
