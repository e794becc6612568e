"""Which store the schema job is told: by a value or a mounted file, one store or two."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkernel.settings import SettingsError
from chatoperator.schemajob import store_url


def test_a_file_wins_and_a_ca_is_written_into_the_url(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:p@h/chat\n")
    told = {"CHAT_STORE_URL": "other", "CHAT_STORE_URL_FILE": str(file), "CHAT_STORE_URL_CA_FILE": "/t/ca"}
    assert store_url(told) == "postgresql://u:p@h/chat?sslmode=verify-full&sslrootcert=/t/ca"


def test_the_directory_of_people_stands_behind_the_messages() -> None:
    told = {
        "CHAT_STORE_URL": "mongodb://m/chat",
        "CHAT_DIRECTORY_URL": "postgresql://p/people",
        "CHAT_DIRECTORY_URL_INSECURE": "1",
    }
    assert store_url(told) == "mongodb://m/chat postgresql://p/people?sslmode=require"


def test_a_job_without_a_store_says_what_is_missing() -> None:
    with pytest.raises(SettingsError, match="CHAT_STORE_URL or CHAT_STORE_URL_FILE"):
        store_url({"CHAT_DIRECTORY_URL": "postgresql://p/people"})
