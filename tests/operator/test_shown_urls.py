"""The status of a cluster shows where its stores are, and no password."""

from __future__ import annotations

import msgspec
import pytest

from chatkernel.storage.url import shown_url
from chatoperator.laptopcluster import _shown
from chatoperator.spec import MongoDb, PostgreSql, Redis, Spec


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://ann:hunter2@db1,db2:27018/chat?authSource=hunter2", "mongodb://db1,db2:27018/chat"),
        ("sqlite:////var/lib/chat.db", "sqlite:////var/lib/chat.db"),
        ("mongodb://ann:hunter2@[db", "not a URL"),
        ("postgresql://ann:pass@hunter2@db/chat", "postgresql://db/chat"),
        ("postgresql://ann:hunter2/x@db/chat", "not a URL"),
        ("postgresql://ann:hunter2?x@db/chat", "not a URL"),
        ("postgresql://ann:hunter2#x@db/chat", "not a URL"),
        ("postgresql:ann:hunter2@db/chat", "not a URL"),
        ("sqlite:////home/ann@home/chat.db", "sqlite:////home/ann@home/chat.db"),
        ("sqlite:////home/ann smith/chat.db", "sqlite:////home/ann smith/chat.db"),
        ("mongodb://a:hunter2@m/chat postgresql://b:hunter2@p/chat", "mongodb://m/chat postgresql://p/chat"),
        ("hunter2", "not a URL"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_spec_is_shown_without_secrets() -> None:
    spec = Spec(
        redis=Redis(url="redis://u:hunter2@redis:6379/0"),
        mongodb=MongoDb(url="mongodb://u:hunter2@db/chat"),
        postgresql=PostgreSql(url="postgresql://u:hunter2@db/chat"),
    )
    told = msgspec.json.encode(_shown(spec))
    assert b"hunter2" not in told and b"mongodb://db/chat" in told and b"postgresql://db/chat" in told
