"""Which store a cluster's file means: its URL may be elsewhere, and where shards keep what needs no new pods."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chatkernel.redis_url import RedisUrlError
from chatkernel.storage.schema_step import Placement
from chatoperator.model import PodKind
from chatoperator.revision import revision_of
from chatoperator.spec import MongoDb, PostgreSql, Redis, Spec, StorageZone, UrlFrom
from chatoperator.specfile import SpecError, parse_cluster
from chatoperator.specsource import SpecSource
from chatoperator.storesource import UrlFromError, placement, redis_url, store_url

HEAD = "apiVersion: chatcluster.dev/v1alpha1\nkind: ChatCluster\nmetadata: {name: chat}\nspec:\n"
SECRET = "mongodb://ann:hunter2@db/chat"


def refused(stores: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_cluster(f"{HEAD}  {stores}\n".encode(), "f.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("stores", "why"),
    [
        ("mongodb: {urlFrom: {}}", "f.yaml:5: spec.mongodb.urlFrom: needs one of env and file"),
        ("mongodb: {urlFrom: {env: A, file: b}}", "needs one of env and file"),
        ("redis: {urlFrom: {secret: {name: a, key: b}}}", "secret is for Kubernetes"),
        ("postgresql: {url: 'postgresql://db/chat', urlFrom: {env: A}}", "takes only one of urlFrom, url"),
        ("postgresql: {urlFrom: {env: 'A B'}}", "spec.postgresql.urlFrom.env: expected text"),
        ("postgresql: {development: true}", "the laptop runs none: leave postgresql out for SQLite"),
        ("mongodb: {url: 'postgresql://db/chat'}", "must start with mongodb:// or mongodb+srv://"),
        ("mongodb: {zones: [{region: eu}, {region: eu}]}", "names a region twice"),
        ("mongodb: {zones: [{region: EU}]}", "spec.mongodb.zones[0].region: expected text"),
    ],
)
def test_what_cannot_be_meant_is_refused(stores: str, why: str) -> None:
    assert why in refused(stores)


def test_the_url_is_read_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{SECRET}\n")
    assert store_url(Spec(mongodb=MongoDb(url_from=UrlFrom(env="DB"))), {"DB": SECRET}) == SECRET
    assert store_url(Spec(postgresql=PostgreSql(url_from=UrlFrom(file=str(file))))) == SECRET
    assert redis_url(Spec(redis=Redis(url_from=UrlFrom(env="R"))), {"R": "redis://r"}) == "redis://r"
    assert store_url(Spec(mongodb=MongoDb(url="mongodb://db/chat"))) == "mongodb://db/chat"
    both = Spec(mongodb=MongoDb(url="mongodb://a/b"), postgresql=PostgreSql(url_from=UrlFrom(env="DB")))
    assert store_url(both, {"DB": "postgresql://c/d"}) == "mongodb://a/b postgresql://c/d"
    assert store_url(Spec()) is None and redis_url(Spec()) is None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for source, why in (
        (UrlFrom(env="DB"), "DB is not set"),
        (UrlFrom(file=str(tmp_path / "none")), "No such file"),
        (UrlFrom(file=str(empty)), "empty"),
    ):
        with pytest.raises(UrlFromError, match=why):
            store_url(Spec(mongodb=MongoDb(url_from=source)), {})
    with pytest.raises(UrlFromError, match=r"spec\.postgresql names no server"):
        store_url(Spec(postgresql=PostgreSql()))


def test_a_secret_url_stays_out_of_the_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", SECRET)
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{HEAD}  mongodb: {{urlFrom: {{env: DB}}, zones: [{{region: eu}}]}}\n")
    source = SpecSource(file)
    assert source.fixed.store_url == SECRET
    assert b"hunter2" not in msgspec.json.encode(source.current)


@pytest.mark.parametrize(
    ("url", "mongodb", "postgresql"),
    [
        ("sqlite:///a.db", None, None),
        ("mongodb+srv://b/chat", MongoDb(url="mongodb+srv://b/chat", zones=[StorageZone(region="eu")]), None),
        ("postgres://b/chat", None, PostgreSql(url="postgres://b/chat")),
        (
            "mongodb://b/chat postgresql://c/chat",
            MongoDb(url="mongodb://b/chat", zones=[StorageZone(region="eu")]),
            PostgreSql(url="postgresql://c/chat"),
        ),
    ],
)
def test_the_store_of_the_command_line_is_instead_of_the_file_s(
    tmp_path: Path, url: str, mongodb: MongoDb | None, postgresql: PostgreSql | None
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{HEAD}  mongodb: {{url: 'mongodb://a/chat', zones: [{{region: eu}}]}}\n")
    source = SpecSource(file, store_url=url)
    assert source.fixed.store_url == url
    assert (source.current.spec.mongodb, source.current.spec.postgresql) == (mongodb, postgresql)


def test_a_secret_url_of_redis_stays_out_too_and_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{HEAD}  redis: {{urlFrom: {{env: R}}}}\n")
    monkeypatch.setenv("R", "redis://u:hunter2@r")
    source = SpecSource(file)
    assert source.fixed.redis_url == "redis://u:hunter2@r"
    assert b"hunter2" not in msgspec.json.encode(source.current)
    monkeypatch.setenv("R", "redis://u:hunter2@r/x")
    with pytest.raises(RedisUrlError, match="by its number"):
        SpecSource(file)


def test_zones_and_the_cluster_s_own_region_are_where_channels_are_to_be() -> None:
    zones = [StorageZone(region="eu", shards=["s1", "s2"]), StorageZone(region="us")]
    spec = Spec(region="local", mongodb=MongoDb(url="mongodb://a/b", zones=zones))
    assert placement(spec) == Placement({"local": (), "eu": ("s1", "s2"), "us": ()})
    bare = msgspec.structs.replace(spec, mongodb=MongoDb(url="mongodb://a/b"))
    assert all(revision_of(spec, kind) == revision_of(bare, kind) for kind in PodKind)
