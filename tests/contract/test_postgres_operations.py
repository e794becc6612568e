"""What docs/postgresql.md tells who runs the database: the roles that are enough, and a dump that is restored."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest
from channel_log import ChannelLog
from sessions import opened
from support.postgres import PASSWORD, USER, Postgres, drop_database, fresh_database

from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange, User
from chatkernel.storage.open import open_store

pytestmark = pytest.mark.stores

GRANTS = (
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON schema_version FROM {role}",
)
"""As in the document, for `chat_pods`."""


@pytest.fixture
def role(postgres: Postgres) -> Iterator[str]:
    name = f"r{secrets.token_hex(4)}"
    postgres.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    postgres.sql(f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    return url.replace(f"//{USER}:", f"//{role}:")


async def test_the_owner_of_a_database_need_be_nothing_more(postgres: Postgres, role: str) -> None:
    name = f"t{secrets.token_hex(6)}"
    postgres.sql(f"CREATE DATABASE {name} OWNER {role}")
    async with opened(as_role(postgres.url(name), role)) as store:
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await log.say("u_ann", "hi")
        await store._db.confirm()
    drop_database(postgres, name)


async def test_pods_can_do_with_a_role_that_changes_no_tables(postgres: Postgres, role: str) -> None:
    name = fresh_database(postgres, "template_chat")
    for grant in GRANTS:
        postgres.sql(grant.format(role=role), name)
    store = await open_store(as_role(postgres.url(name), role))
    await store.ensure_schema()  # Nothing is left to do.
    await store.check()
    await store.create_user(User("u_ann", "ann", "Ann", 1), "")
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "hi")
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    await store.aclose()
    drop_database(postgres, name)


async def test_a_restored_dump_goes_on_where_it_was(postgres: Postgres) -> None:
    name, copy = fresh_database(postgres, "template_chat"), fresh_database(postgres)
    async with opened(postgres.url(name)) as store:
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await log.say("u_ann", "before \0 the dump")
    dump = postgres.run("pg_dump", "--no-owner", postgres.url(name))
    restored = subprocess.run(
        ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", postgres.url(copy)],
        input=dump.stdout,
        text=True,
        capture_output=True,
    )
    assert restored.returncode == 0, restored.stderr
    log.store = await open_store(postgres.url(copy))
    await log.store.check()
    await log.say("u_ann", "after it")
    [events] = await log.store.events([EventRange(log.channel_id, 1, 9)])
    assert [event.text for event in events] == ["before \0 the dump", "after it"]
    assert (await log.store.heads([log.channel_id]))[log.channel_id].seq == 3
    await log.store.aclose()
    drop_database(postgres, name)
    drop_database(postgres, copy)
