"""Pods' log files: one per pod, bounded in size and number."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from chatoperator.model import PodKind

LOG_MAX_BYTES = 8 * 1024 * 1024
LOGS_KEPT = 40
"""Files of pods that are gone are kept up to this many, newest first."""

_OF_A_POD = re.compile(rf"((?:{'|'.join(PodKind)})-\d+)\.log(?:\.1)?")
"""Not those of the operator, Redis, the forker: these are in use all the time."""


def prepare_log(folder: Path, pod: str, living: Collection[str] = ()) -> Path:
    """The new pod's file; of the files of pods that are not living the oldest beyond LOGS_KEPT go. Raises OSError."""
    gone = []
    for file in folder.iterdir():
        match = _OF_A_POD.fullmatch(file.name)
        if match is not None and match[1] not in living and match[1] != pod:
            gone.append((file.stat().st_mtime, file))
    for _, file in sorted(gone, reverse=True)[LOGS_KEPT - 1 :]:
        file.unlink(missing_ok=True)
    return folder / f"{pod}.log"


def bound_log(file: Path) -> bool:
    """Whether it had to be cut. The writer appends, so what it writes next is at the new start. Raises OSError.

    What is written between the copy and the cut is lost: a log may, a message may not. Where there is no room for
    the copy, on a full disk, all of it is: the room is what matters then.
    """
    copy = file.with_suffix(".log.1")
    try:
        if file.stat().st_size <= LOG_MAX_BYTES:
            return False
        try:
            shutil.copyfile(file, copy)
        except OSError:
            with contextlib.suppress(OSError):
                copy.unlink()  # a part of a copy, or an older one
        os.truncate(file, 0)
    except FileNotFoundError:
        return False
    return True
