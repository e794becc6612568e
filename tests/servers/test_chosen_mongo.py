"""Which MongoDB server the tests take is said, without secrets, and a missing one is said, too."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from support.mongo import java_build
from support.mongo.chosen import VARIABLE, MongoKind, chosen, hosts, with_database


def test_a_uri_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        VARIABLE, "mongodb://chat:geheim@db1.example,db2.example:27018/x?replicaSet=rs&appName=geheim"
    )
    assert chosen().kind is MongoKind.URI
    assert chosen().line == "mongodb: MONGODB_URI db1.example,db2.example:27018"


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://chat:ge@heim@db.example/",
        "mongodb://chat:ge#heim@db.example/",
        "mongodb://chat:ge/heim@db.example/",
        "mongodb://chat:1234/heim@db.example/",
        "mongodb://chat:1234?heim@db.example/",
        "chat:geheim@db.example",
    ],
)
def test_of_a_uri_that_is_not_understood_nothing_is_shown(uri: str) -> None:
    assert "heim" not in hosts(uri)
    assert "1234" not in hosts(uri)
    with pytest.raises(ValueError, match=VARIABLE) as refused:
        with_database(uri, "x")
    assert "heim" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h", "mongodb://h/new"),
        ("mongodb://h/?a=b", "mongodb://h/new?a=b"),
        ("mongodb://h,i/old?a=b", "mongodb://h,i/new?a=b"),
        ("mongodb://u:p@h/old", "mongodb://u:p@h/new?authSource=old"),
        ("mongodb://u:p@h/old?authSource=admin", "mongodb://u:p@h/new?authSource=admin"),
        ("mongodb+srv://u:p@h/?a=b", "mongodb+srv://u:p@h/new?a=b"),
    ],
)
def test_another_database_of_the_same_deployment(uri: str, expected: str) -> None:
    assert with_database(uri, "new") == expected


def test_without_java_it_is_said_that_nothing_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    assert chosen().kind is MongoKind.NONE
    assert "NOT TESTED" in chosen().line
    assert "apt install" in chosen().line
    with pytest.raises(java_build.NoJava, match="apt install"):
        java_build.built_jar()


def test_the_scripted_server_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "scripted")
    assert chosen().line == "mongodb: scripted"


def test_the_chosen_server_has_a_database_for_each_test(mongo_url: str) -> None:
    with MongoClient[dict[str, object]](mongo_url) as client:
        database = client.get_default_database()
        assert database.list_collection_names() == []
        database.events.insert_one({"_id": 1})
        assert database.events.count_documents({}) == 1
