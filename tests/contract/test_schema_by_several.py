"""Several `chatctl schema apply` at once, each a process of its own: one store as it should be, whatever the
database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.chatctl import Chatctl

pytestmark = pytest.mark.slow


def test_several_may_apply_at_once(tmp_path: Path, empty_store_url: str) -> None:
    chatctl = Chatctl(tmp_path / "data")
    starts = [chatctl.start("schema", "apply", empty_store_url, "--json") for _ in range(4)]
    applied = [(process.communicate(timeout=60), process.returncode) for process in starts]
    assert [code for _, code in applied] == [0] * 4, applied
    assert all(json.loads(out)["ok"] for (out, _), _ in applied)
    checked = chatctl.here("schema", "check", empty_store_url)
    assert checked.returncode == 0 and checked.stdout.rstrip().endswith("nothing to do")
