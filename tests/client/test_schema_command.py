"""`chatctl schema`: says what a store lacks, makes it so, and takes nothing away unless it is told to."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pymongo import MongoClient
from support.chatctl import Chatctl
from support.mongo.topology import mongos

from chatkernel.storage.mongo.schema import COLLECTIONS
from chatkernel.storage.mongo.schema import SCHEMA_VERSION as MONGO_VERSION
from chatkernel.storage.sql.schema import SCHEMA_VERSION as SQL_VERSION

INDEXES = sum(len(spec.indexes) for spec in COLLECTIONS)


@pytest.fixture
def chatctl(tmp_path: Path) -> Chatctl:
    return Chatctl(tmp_path / "data")


def told(done: CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def made(chatctl: Chatctl, *words: str) -> dict[str, Any]:
    done = chatctl.here(*words, "--json")
    assert done.returncode == 0, done.stderr
    return told(done)


def does(steps: list[dict[str, Any]]) -> list[str]:
    return [step["does"] for step in steps]


def test_on_mongo_what_is_planned_is_done_and_then_nothing_is_left(chatctl: Chatctl, mongo_url: str) -> None:
    planned = told(chatctl.here("schema", "plan", mongo_url, "--json"))
    assert len(planned["steps"]) == INDEXES + 1 and not planned["ok"]
    assert "create unique index channel_id_seq on events (channel_id, seq)" in does(planned["steps"])
    lacking = chatctl.here("schema", "check", mongo_url)
    assert lacking.returncode == 1 and "channel_id_seq" in lacking.stdout

    applied = made(chatctl, "schema", "apply", mongo_url)
    assert applied["ok"] and does(applied["done"]) == does(planned["steps"])

    checked = chatctl.here("schema", "check", mongo_url)
    assert checked.returncode == 0 and checked.stdout.rstrip().endswith("nothing to do")


def test_on_mongo_an_index_that_was_changed_is_made_beside_it_and_strange_ones_are_kept(
    chatctl: Chatctl, mongo_url: str
) -> None:
    made(chatctl, "schema", "apply", mongo_url)
    with MongoClient[dict[str, Any]](mongo_url) as client:
        events = client.get_default_database()["events"]
        events.drop_index("channel_id_seq")
        events.create_index([("channel_id", 1), ("seq", 1)], name="channel_id_seq")
        events.create_index([("text", 1)], name="somebody_made_this")
        differs = chatctl.here("schema", "check", mongo_url, "--json")
        assert differs.returncode == 1
        assert does(told(differs)["steps"]) == [
            "create unique index channel_id_seq_2 on events (channel_id, seq)",
            "drop index channel_id_seq of events: it is not of this schema",
            "drop index somebody_made_this of events: it is not of this schema",
        ]

        kept = made(chatctl, "schema", "apply", mongo_url)
        assert kept["ok"] and [step["destructive"] for step in kept["steps"]] == [True, True]
        names = set(events.index_information())
        assert {"channel_id_seq", "channel_id_seq_2", "somebody_made_this"} <= names
        assert chatctl.here("schema", "check", mongo_url).returncode == 0

        gone = made(chatctl, "schema", "apply", mongo_url, "--allow-destructive")
        assert len(gone["done"]) == 2 and not gone["steps"]
        left = events.index_information()
        assert left["channel_id_seq_2"]["unique"] and len(left) == 4


def test_on_mongo_another_release_s_store_is_brought_up_or_refused(chatctl: Chatctl, mongo_url: str) -> None:
    made(chatctl, "schema", "apply", mongo_url)
    with MongoClient[dict[str, Any]](mongo_url) as client:
        version = client.get_default_database()["schema"]
        version.update_one({"_id": "chatcluster"}, {"$set": {"version": 0}})
        planned = made(chatctl, "schema", "plan", mongo_url)
        assert does(planned["steps"]) == [f"note schema version {MONGO_VERSION}, it was 0"]
        made(chatctl, "schema", "apply", mongo_url)
        version.update_one({"_id": "chatcluster"}, {"$set": {"version": 99}})
        for command in ("plan", "apply", "check"):
            refused = chatctl.here("schema", command, mongo_url)
            assert refused.returncode == 2
            assert "version 99" in refused.stderr and "use the release that made it" in refused.stderr
        assert version.find_one({"_id": "chatcluster"}) == {"_id": "chatcluster", "version": 99}


CLUSTER = """\
apiVersion: chatcluster.dev/v1alpha1
kind: ChatCluster
metadata: {{name: chat}}
spec:
  region: eu
  mongodb:
    urlFrom: {{env: THE_STORE}}
    zones:
      - {{region: eu, shards: [shard01]}}
      - {{region: us, shards: [{shard}]}}
"""


@pytest.mark.slow
async def test_on_a_mongos_collections_are_sharded_split_and_kept_in_their_zones(
    chatctl: Chatctl, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER.format(shard="shard02"))

    async def run(*words: str) -> CompletedProcess[str]:
        return await asyncio.to_thread(chatctl.here, *words, "--file", str(file), "--json")

    async with mongos() as router:
        chatctl.environ["THE_STORE"] = f"mongodb://{router.host}/chat"
        assert (await run("schema", "apply")).returncode == 0
        again = await run("schema", "apply")
        assert (again.returncode, told(again)["done"]) == (0, [])
        assert (await run("schema", "check")).returncode == 0

        store = router.store
        sharded = {each["_id"]: list(each["key"]) for each in store.documents("config.collections")}
        assert sharded["chat.events"] == ["channel_id"] and sharded["chat.users"] == ["_id"]
        ids = {each["uuid"]: each["_id"] for each in store.documents("config.collections")}
        chunks = [
            (next(iter(each["min"].values())), each["shard"])
            for each in store.documents("config.chunks")
            if ids[each["uuid"]] == "chat.events"
        ]
        of_region = {
            region: {shard for low, shard in chunks if str(low).startswith(f"{region}_")}
            for region in ("eu", "us")
        }
        assert of_region == {"eu": {"shard01"}, "us": {"shard02"}} and len(chunks) == 1 + 2 * 32
        zones = {(each["ns"], each["tag"]) for each in store.documents("config.tags")}
        assert {("chat.events", "eu"), ("chat.channels", "us")} <= zones and len(zones) == 8

        file.write_text(CLUSTER.format(shard="shard77"))
        wrong = await run("schema", "apply")
        assert wrong.returncode == 1
        assert does(told(wrong)["steps"]) == ["there is no shard shard77, which zone us is to have"]


def test_on_sqlite_it_mends_what_was_changed_by_hand(chatctl: Chatctl) -> None:
    path = chatctl.data / "chat.db"
    nothing = chatctl.here("schema", "plan", f"sqlite:///{path}")
    assert nothing.returncode == 2 and "apply" in nothing.stderr and not path.exists()
    first = made(chatctl, "schema", "apply", f"sqlite:///{path}")
    assert does(first["done"]) == [f"make the tables of version {SQL_VERSION}"]
    assert chatctl.here("schema", "check").stdout.rstrip().endswith("nothing to do")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER events_move_head")
        db.execute("DROP INDEX events_listed")
        db.execute("CREATE INDEX events_listed ON events (message_id)")
        db.execute("CREATE INDEX somebody_made_this ON users (about)")
    assert chatctl.here("schema", "check").returncode == 1
    mended = made(chatctl, "schema", "apply")
    assert does(mended["done"]) == [
        "create unique index events_listed_2 on events (channel_id, message_id)",
        "create trigger events_move_head",
    ]
    assert mended["ok"] and len(mended["steps"]) == 2
    gone = made(chatctl, "schema", "apply", "--allow-destructive")
    assert gone["ok"] and not gone["steps"]
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE users DROP COLUMN about")
    wrong = chatctl.here("schema", "apply", "--json")
    assert wrong.returncode == 1
    assert does(told(wrong)["steps"]) == ["column about of table users is gone: restore a backup"]


def test_passwords_are_never_shown(chatctl: Chatctl) -> None:
    url = "mongodb://ann:hunter2@127.0.0.1:1/chat?timeoutMS=300&authSource=hunter2"
    chatctl.environ["CHATCTL_STORE"] = url
    for words in (
        ("plan",),
        ("apply",),
        ("check", "--json"),
        ("plan", url.replace("authSource", "nonsense")),
    ):
        refused = chatctl.here("schema", *words)
        assert refused.returncode == 2
        assert "hunter2" not in refused.stdout + refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize("second", [" postgresql", " PostgreSQL", ",postgresql"])
def test_passwords_are_not_shown_either_where_the_store_is_two(
    chatctl: Chatctl, tmp_path: Path, second: str
) -> None:
    chatctl.environ["CHATCTL_STORE"] = (
        f"sqlite:///{tmp_path}/x.db{second}://chat:s3cretpw@127.0.0.1:1/chat?connect_timeout_s=0.3"
    )
    for words in (
        ("schema", "plan"),
        ("schema", "check"),
        ("schema", "apply"),
        ("backup", f"{tmp_path}/copy.db"),
    ):
        refused = chatctl.here(*words)
        assert refused.returncode == 2
        assert "s3cretpw" not in refused.stdout + refused.stderr and refused.stderr.count("\n") == 1, words


def test_of_two_stores_that_are_files_each_has_to_be_there(chatctl: Chatctl, tmp_path: Path) -> None:
    first, second = tmp_path / "messages.db", tmp_path / "people.db"
    both = f"sqlite:///{first} sqlite:///{second}"
    made(chatctl, "schema", "apply", f"sqlite:///{first}")
    lacking = chatctl.here("schema", "plan", both)
    assert lacking.returncode == 2 and f"there is no {second} yet" in lacking.stderr
    assert not second.exists()
    made(chatctl, "schema", "apply", both)
    assert chatctl.here("schema", "check", both).returncode == 0
