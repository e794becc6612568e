"""A child that could not be noted does not live on without anybody who knows it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from laptop.laptoprun import processes_of, until

from chatoperator.datadir import MARKER_ENV
from chatoperator.launcher import Launcher
from chatoperator.model import PodKind


async def test_a_child_that_cannot_be_noted_is_ended(tmp_path: Path) -> None:
    born: list[int] = []

    def disk_is_full(pid: int) -> None:
        born.append(pid)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    launcher = Launcher(
        tmp_path,
        marker=(MARKER_ENV, str(tmp_path)),
        on_pid=disk_is_full,
        commands=dict.fromkeys(PodKind, ("sleep", "600")),
    )
    try:
        with pytest.raises(OSError, match="No space left"):
            await launcher.launch(PodKind.CHAT, {}, tmp_path / "chat-1.log", {})
        assert len(born) == 1
        until(lambda: processes_of(tmp_path) == [], 5)
    finally:
        await launcher.aclose()
