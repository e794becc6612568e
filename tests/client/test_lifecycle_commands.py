"""`chatctl jobs`, `erase` and `export` on a real cluster."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator

import pytest
from support.chatctl import Chatctl

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chatctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chatctl]:
    chatctl = Chatctl(tmp_path_factory.mktemp("cluster") / "data")
    with chatctl.up():
        yield chatctl


def test_a_person_takes_their_data_along_and_is_erased(chatctl: Chatctl) -> None:
    for name in ("carol", "dave"):
        assert chatctl.run("signup", name).returncode == 0
    chatctl.json("send", "--as", "carol", "dave", "hello dave")
    target = chatctl.data / "carol.tar.gz"
    for _ in range(2):  # within the hour it is the same archive
        (saved,) = chatctl.json("export", "--as", "carol", "--out", str(target))
        assert saved == {"file": str(target), "bytes": target.stat().st_size}
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as tar:
        names = tar.getnames()
        person = tar.extractfile("person.json")
        assert person is not None and json.load(person)["username"] == "carol"
    assert any(name.startswith("history/") for name in names)
    refused = chatctl.run("erase", "carol", "--yes", "--ops-token", "nonsense")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    (job,) = chatctl.json("erase", "carol", "--yes", "--wait")
    assert (job["kind"], job["state"]) == ("erase", "done")
    (found,) = chatctl.json("jobs")
    kinds = {(each["kind"], each["state"]) for each in found}  # type: ignore[attr-defined]
    assert kinds == {("erase", "done"), ("retention", "waiting")}
    shown = chatctl.run("jobs").stdout.splitlines()
    assert len(shown) == 2 and any("erase" in line and "done" in line for line in shown)
    gone = chatctl.run("erase", "carol", "--yes")
    assert (gone.returncode, gone.stderr) == (1, "No such user\n")
    items = chatctl.json("history", "--as", "dave", "--limit", "1", str(_channel(chatctl)))
    assert items


def _channel(chatctl: Chatctl) -> object:
    (line,) = chatctl.json("channels", "--as", "dave")
    return line["channel_id"]
