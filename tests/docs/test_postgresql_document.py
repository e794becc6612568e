"""docs/postgresql.md has the URL's parameters with their defaults, all sentences of faults, and tested grants."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from chatkernel.storage.sql.postgres_engine import SERVER_VERSION_MIN
from chatkernel.storage.sql.postgres_errors import _SENTENCES
from chatkernel.storage.sql.postgres_url import PostgresOptions

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "postgresql.md").read_text()


def test_every_parameter_has_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.MULTILINE))
    assert rows == {field.name: str(field.default) for field in msgspec.structs.fields(PostgresOptions)}


def test_every_sentence_is_there() -> None:
    for sentence in _SENTENCES.values():
        assert f"| {sentence} |" in TEXT


def test_the_oldest_version_is_right() -> None:
    assert f"a PostgreSQL, {SERVER_VERSION_MIN} or newer" in TEXT


def test_the_grants_are_those_that_are_tested() -> None:
    tested = (ROOT / "tests" / "contract" / "test_postgres_operations.py").read_text()
    grants = re.findall(r"^(?:GRANT|REVOKE) .*chat_pods;$", TEXT, re.MULTILINE)
    assert len(grants) == 3
    for grant in grants:
        assert f'"{grant.removesuffix(";").replace("chat_pods", "{role}")}"' in tested


def test_the_named_tests_exist() -> None:
    for name in re.findall(r"`(tests/\S+)`", TEXT):
        assert (ROOT / name).is_file()
