"""What may change while a service runs follows its file; what cannot be used changes nothing, and is said once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatkernel.live import Live, LiveFile
from chatkernel.protocol import Limits
from chatkernel.settings import DrainSettings


def write(file: Path, content: Any) -> None:
    """As a mounted ConfigMap is renewed: a link in the path comes to mean another directory."""
    made = Path(tempfile.mkdtemp(dir=file.parent))
    (made / "live.json").write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
    new = file.parent / "new"
    new.symlink_to(made / "live.json")
    new.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "live.json"


def test_a_change_of_the_file_holds_from_the_next_look_on(file: Path) -> None:
    live, followed = Live(), []
    live.follow(lambda: followed.append(live.limits.page_max_items))
    follower = LiveFile(file, live)
    write(file, {"limits": {"page_max_items": 7}, "drain": {"rate_per_s": 3}})
    follower.look()
    follower.look()
    assert (live.limits, live.drain) == (Limits(page_max_items=7), DrainSettings(rate_per_s=3))
    assert followed == [200, 7]
    write(file, {"limits": {}})
    follower.look()
    assert (live.limits, live.drain) == (Limits(), DrainSettings())


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        {"limits": {"page_max_items": "many"}},
        {"limits": {"page_max_items": 0}},
        {"rates": {"login_window_s": -1}},
        {"drain": {"deadline_s": 10**9}},
    ],
)
def test_what_cannot_be_used_changes_nothing_and_is_said_once(
    file: Path, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live()
    follower = LiveFile(file, live)
    write(file, {"limits": {"page_max_items": 7}})
    follower.look()
    write(file, bad)
    for _ in range(3):
        follower.look()
    assert live.limits == Limits(page_max_items=7) and follower.refused
    assert [record.message for record in caplog.records] == ["live settings refused, the old ones stay"]
    file.unlink()
    follower.look()
    assert live.limits == Limits(page_max_items=7) and follower.refused
    write(file, {"limits": {"page_max_items": 8}})
    follower.look()
    assert live.limits == Limits(page_max_items=8) and not follower.refused
