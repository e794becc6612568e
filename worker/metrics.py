"""A worker's figures for Prometheus."""

from __future__ import annotations

from chatkernel.metrics import Metric, counter, gauge, of_process, parts_away, settings_refused
from worker.work import Work


def metrics(work: Work) -> list[Metric]:
    stats = work.stats()
    return [
        gauge("chat_ready", "1: its loops run", work.ready),
        counter("chat_worker_reaped_total", "Dead pods cleared away", stats.reaped),
        counter("chat_worker_poked_total", "Channels looked at that a dead pod wrote to", stats.poked),
        counter("chat_worker_swept_total", "People who went offline without saying so", stats.swept),
        counter("chat_worker_expired_total", "Events that retention removed", stats.expired),
        counter("chat_worker_blanked_total", "Events of erased people", stats.blanked),
        Metric("chat_worker_steps_total", "counter", "Steps done without an error", stats.steps, "loop"),
        Metric("chat_worker_batches_total", "counter", "Batches of jobs", stats.batches, "kind"),
        Metric("chat_worker_jobs_total", "counter", "Jobs that ended", stats.jobs_ended, "kind_and_state"),
        settings_refused(work.live_file),
        parts_away(stats.degraded),
        *of_process(),
    ]
