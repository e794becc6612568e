"""`MONGODB_URI` is drilled by a wire in front of it where that can be, and else only the pods are broken; what cannot
be drilled there is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support.mongo.chosen import VARIABLE, one_host
from support.mongo.java_server import JavaMongo

from drills.mongo_store import mongo
from drills.store_fault import StoreUnderTest


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h", ("h", 27017)),
        ("mongodb://u:p@h:1/x?authSource=admin", ("h", 1)),
        ("mongodb://[::1]:1/", ("::1", 1)),
        ("mongodb://h,i/", None),
        ("mongodb+srv://h/", None),
        ("mongodb://h/?tls=true", None),
        ("mongodb://h/?SSL=true", None),
        ("mongodb://h/?tls=false", ("h", 27017)),
        ("mongodb://h/?compressors=zlib", None),
        ("mongodb://h/?replicaSet=rs", ("h", 27017)),
    ],
)
def test_a_wire_goes_in_front_of_one_host_that_speaks_openly(
    uri: str, expected: tuple[str, int] | None
) -> None:
    assert one_host(uri) == expected


def names_of(store: StoreUnderTest) -> list[str]:
    return [fault.name for fault in store.faults]


def looked(url: str) -> Any:
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=200, timeoutMS=200) as client:
        return client.get_default_database().command("ping")["ok"]


async def test_one_node_of_yours_is_broken_on_the_wire_and_left_as_it_was(
    java_mongo: JavaMongo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, f"{java_mongo.url}somewhere")
    with MongoClient[dict[str, Any]](java_mongo.url) as client:
        before = set(client.list_database_names())
        async with mongo() as store:
            assert names_of(store) == ["freeze", "errors", "cut", "slow"]
            assert "NOT DRILLED on this one: kill, failover, step-down, full" in capsys.readouterr().out
            assert VARIABLE in store.words and f"127.0.0.1:{java_mongo.port}" in store.words
            assert str(java_mongo.port) not in store.url
            assert await asyncio.to_thread(looked, store.url) == 1
            for fault in store.faults[:3:2]:
                async with fault.broken():
                    with pytest.raises(PyMongoError):
                        await asyncio.to_thread(looked, store.url)
                assert await asyncio.to_thread(looked, store.url) == 1
            with MongoClient[dict[str, Any]](store.url) as other:
                await asyncio.to_thread(other.get_default_database()["x"].insert_one, {})
            assert set(client.list_database_names()) != before
        assert set(client.list_database_names()) == before


async def test_of_several_hosts_only_the_pods_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mongodb://ann:geheim@127.0.0.1:1,127.0.0.1:2/?serverSelectionTimeoutMS=200")
    async with mongo() as store:
        assert names_of(store) == [] and "only pods" in store.words
        assert "geheim" not in store.words and "127.0.0.1:1,127.0.0.1:2/drill_" in store.url


async def test_the_scripted_server_is_what_is_drilled_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "scripted")
    async with mongo() as store:
        assert names_of(store) == ["freeze", "errors", "cut", "slow"] and "scripted" in store.words
        assert "NOT DRILLED on this one: kill" in capsys.readouterr().out
        assert await asyncio.to_thread(looked, store.url) == 1
        for fault in store.faults[:3:2]:
            async with fault.broken():
                with pytest.raises(PyMongoError):
                    await asyncio.to_thread(looked, store.url)
            assert await asyncio.to_thread(looked, store.url) == 1
