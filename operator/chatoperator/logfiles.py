"""Pods' log files: one per pod, bounded in size and number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LOG_MAX_BYTES = 8 * 1024 * 1024
LOGS_KEPT = 40
"""Files of pods that are gone are kept up to this many, newest first."""


def prepare_log(folder: Path, pod: str) -> Path:
    """The new pod's file; the oldest files beyond LOGS_KEPT go."""
    old = sorted(folder.glob("*.log*"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in old[LOGS_KEPT - 1 :]:
        file.unlink(missing_ok=True)
    return folder / f"{pod}.log"


def bound_log(file: Path) -> bool:
    """Whether it had to be cut. The writer appends, so what it writes next is at the new start.

    What is written between the copy and the cut is lost: a log may, a message may not.
    """
    try:
        if file.stat().st_size <= LOG_MAX_BYTES:
            return False
        shutil.copyfile(file, file.with_suffix(".log.1"))
        os.truncate(file, 0)
    except FileNotFoundError:
        return False
    return True
