"""Which store a cluster's file means: its URL may be elsewhere, and where shards keep what needs no new pods."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chatkernel.storage.schema_step import Placement
from chatoperator.model import PodKind
from chatoperator.revision import revision_of
from chatoperator.spec import Spec, Storage, StorageZone, UrlFrom
from chatoperator.specfile import SpecError, parse_cluster
from chatoperator.specsource import SpecSource
from chatoperator.storesource import StoreUrlError, placement, store_url

HEAD = "apiVersion: chatcluster.dev/v1alpha1\nkind: ChatCluster\nmetadata: {name: chat}\nspec:\n"
SECRET = "mongodb://ann:hunter2@db/chat"


def refused(storage: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_cluster(f"{HEAD}  storage: {storage}\n".encode(), "f.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        ("{urlFrom: {}}", "f.yaml:5: spec.storage.urlFrom: needs one of env and file"),
        ("{urlFrom: {env: A, file: b}}", "needs one of env and file"),
        ("{url: 'mongodb://db/chat', urlFrom: {env: A}}", "is instead of url"),
        ("{urlFrom: {env: 'A B'}}", "spec.storage.urlFrom.env: expected text"),
        ("{url: 'sqlite:///a.db', zones: [{region: eu}]}", "are for a sharded MongoDB"),
        ("{zones: [{region: eu}, {region: eu}]}", "names eu twice"),
        ("{zones: [{region: EU}]}", "spec.storage.zones[0].region: expected text"),
    ],
)
def test_what_cannot_be_meant_is_refused(storage: str, why: str) -> None:
    assert why in refused(storage)


def test_the_url_is_read_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{SECRET}\n")
    assert store_url(Storage(url_from=UrlFrom(env="DB")), {"DB": SECRET}) == SECRET
    assert store_url(Storage(url_from=UrlFrom(file=str(file)))) == SECRET
    assert store_url(Storage(url="mongodb://db/chat")) == "mongodb://db/chat"
    assert store_url(Storage()) is None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for source, why in (
        (UrlFrom(env="DB"), "DB is not set"),
        (UrlFrom(file=str(tmp_path / "none")), "No such file"),
        (UrlFrom(file=str(empty)), "is empty"),
    ):
        with pytest.raises(StoreUrlError, match=why):
            store_url(Storage(url_from=source), {})


def test_a_secret_url_stays_out_of_the_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", SECRET)
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{HEAD}  storage: {{urlFrom: {{env: DB}}}}\n")
    source = SpecSource(file)
    assert source.fixed.store_url == SECRET
    assert b"hunter2" not in msgspec.json.encode(source.current)
    assert SpecSource(file, store_url="sqlite:///a.db").current.spec.storage == Storage(url="sqlite:///a.db")


def test_zones_and_the_cluster_s_own_region_are_where_channels_are_to_be() -> None:
    zones = [StorageZone(region="eu", shards=["s1", "s2"]), StorageZone(region="us")]
    spec = Spec(region="local", storage=Storage(zones=zones))
    assert placement(spec) == Placement({"local": (), "eu": ("s1", "s2"), "us": ()})
    bare = msgspec.structs.replace(spec, storage=Storage())
    assert all(revision_of(spec, kind) == revision_of(bare, kind) for kind in PodKind)
