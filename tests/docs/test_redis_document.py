"""docs/redis.md names every key that there is, and the user that it makes is the one that is tested."""

from __future__ import annotations

from pathlib import Path

from chatkernel.keys import Keys

TEXT = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()


def test_every_key_is_in_the_table() -> None:
    keys = Keys("", "")
    names = [name for name in vars(keys).values() if name != keys.base]
    names += [keys.stream("NAME"), keys.pod_routes("NAME"), keys.intents("NAME"), keys.limit("NAME")]
    names += [keys.route(f"{kind}:ID") for kind in "cuw"]
    person = "ID"
    shard = keys.presence_shard(person)
    names += [keys.presence_expiry(shard), keys.presence_user(person), keys.discovery_mark("NAME", "RUN")]
    for name in names:
        assert f"`{name.removeprefix(keys.base).replace(f'presence:{shard}', 'presence:N')}`" in TEXT


def test_the_user_of_the_document_has_the_rights_that_are_tested() -> None:
    rights = (Path(__file__).parents[1] / "redis" / "test_redis_secrets.py").read_text()
    (line,) = [line for line in TEXT.splitlines() if line.startswith("ACL SETUSER")]
    assert line.partition("~chat:NAME:* ")[2] in rights
