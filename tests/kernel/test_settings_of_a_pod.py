"""A service's settings where one file is for many pods: names and addresses from the environment, URLs from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatkernel.protocol import Limits
from chatkernel.settings import (
    ANY_ADDRESS,
    LiveSettings,
    ServiceSettings,
    SettingsError,
    load_settings,
)

URLS = {"redis_url": "redis://r", "store_url": "sqlite:///d"}


def load(folder: Path, environ: dict[str, str] | None = None, **fields: Any) -> ServiceSettings:
    file = folder / "settings.json"
    file.write_bytes(msgspec.json.encode({"cluster": "c", "revision": "r", "secret_file": "s.json"} | fields))
    return load_settings({"CHAT_CONFIG": str(file)} | (environ or {}))


@pytest.mark.parametrize(("ip", "host"), [("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")])
def test_a_pod_is_called_and_reached_as_the_environment_says(tmp_path: Path, ip: str, host: str) -> None:
    environ = {"CHAT_POD": "talk-chat-1", "CHAT_POD_IP": ip}
    settings = load(
        tmp_path, environ, pod="other", public_url="wss://{ip}/pods/{pod}/v1/socket", port=81, **URLS
    )
    assert settings.pod == "talk-chat-1"
    assert settings.public_url == f"wss://{host}/pods/talk-chat-1/v1/socket"
    assert settings.address == f"ws://{host}:81/v1/socket"
    assert settings.host == ANY_ADDRESS
    assert load(tmp_path, environ, host="{ip}", **URLS).host == ip


def test_without_an_environment_the_file_says_all(tmp_path: Path) -> None:
    settings = load(tmp_path, pod="chat-1", **URLS)
    assert (settings.pod, settings.host, settings.address) == ("chat-1", "127.0.0.1", "")
    with pytest.raises(SettingsError, match="CHAT_POD is not set"):
        load(tmp_path, **URLS)


def test_urls_come_from_files_first(tmp_path: Path) -> None:
    redis, store = tmp_path / "redis", tmp_path / "store"
    redis.write_text("redis://:secret@r:6379/0\n")
    store.write_text("postgresql://u:secret@p/chat")
    settings = load(tmp_path, pod="a", redis_url_file=str(redis), store_url_file=str(store), **URLS)
    assert settings.redis_url == "redis://:secret@r:6379/0"
    assert settings.store_url == "postgresql://u:secret@p/chat"
    store.write_text("\n")
    with pytest.raises(SettingsError, match=f"{store}: empty"):
        load(tmp_path, pod="a", redis_url_file=str(redis), store_url_file=str(store))
    with pytest.raises(SettingsError, match="missing: No such file"):
        load(tmp_path, pod="a", redis_url_file=str(tmp_path / "missing"), store_url_file=str(store))
    redis.write_text("http://:secret@r")
    with pytest.raises(SettingsError, match=f"{redis}: must start with redis://") as refused:
        load(tmp_path, pod="a", redis_url_file=str(redis), store_url="sqlite:///d")
    assert "secret" not in str(refused.value)
    with pytest.raises(SettingsError, match="redis_url is empty"):
        load(tmp_path, pod="a", store_url="sqlite:///d")


def test_a_second_store_stands_behind_the_first(tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.write_text("postgresql://u:secret@p/people\n")
    settings = load(tmp_path, pod="a", directory_url_file=str(people), directory_ca_file="/t/ca", **URLS)
    second = "postgresql://u:secret@p/people?sslmode=verify-full&sslrootcert=/t/ca"
    assert settings.store_url == f"{URLS['store_url']} {second}"
    with pytest.raises(SettingsError, match=r"directory_ca_file: .* not reached by TLS"):
        load(tmp_path, pod="a", directory_url="sqlite:///d", directory_ca_file="/t/ca", **URLS)


@pytest.mark.parametrize(
    ("url", "fields", "trusting"),
    [
        ("rediss://r:1/0", {"redis_ca_file": "/t/ca"}, "rediss://r:1/0?ssl_ca_certs=/t/ca"),
        ("rediss+sentinel://a,b/s", {"redis_ca_file": "/t/ca"}, "rediss+sentinel://a,b/s?ssl_ca_certs=/t/ca"),
        ("rediss://r?ssl_ca_certs=/own", {"redis_ca_file": "/t/ca"}, "rediss://r?ssl_ca_certs=/own"),
        (
            "rediss://r?client_name=x",
            {"redis_insecure": True},
            "rediss://r?client_name=x&ssl_cert_reqs=none&ssl_check_hostname=false",
        ),
    ],
)
def test_a_ca_of_redis_is_written_into_its_url(
    tmp_path: Path, url: str, fields: dict[str, Any], trusting: str
) -> None:
    settings = load(tmp_path, pod="a", redis_url=url, store_url="sqlite:///d", **fields)
    assert settings.redis_url == trusting


@pytest.mark.parametrize(
    ("url", "fields", "trusting"),
    [
        (
            "mongodb://u:p@a,b",
            {"store_ca_file": "/t/ca"},
            "mongodb://u:p@a,b/?tls=true&tlsCAFile=/t/ca",
        ),
        (
            "mongodb+srv://m/chat?w=majority",
            {"store_insecure": True},
            "mongodb+srv://m/chat?w=majority&tls=true&tlsInsecure=true",
        ),
        (
            "postgresql://p/chat",
            {"store_ca_file": "/t/ca"},
            "postgresql://p/chat?sslmode=verify-full&sslrootcert=/t/ca",
        ),
        (
            "postgresql://p/chat?sslmode=verify-ca",
            {"store_ca_file": "/t/ca"},
            "postgresql://p/chat?sslmode=verify-ca&sslrootcert=/t/ca",
        ),
        ("postgresql://p/chat", {"store_insecure": True}, "postgresql://p/chat?sslmode=require"),
        (
            "mongodb://u:p@a,b/chat?w=1 postgresql://p/chat",
            {"store_ca_file": "/t/ca"},
            "mongodb://u:p@a,b/chat?w=1&tls=true&tlsCAFile=/t/ca"
            " postgresql://p/chat?sslmode=verify-full&sslrootcert=/t/ca",
        ),
        (
            "postgresql://p/chat mongodb://a",
            {"store_insecure": True},
            "postgresql://p/chat?sslmode=require mongodb://a/?tls=true&tlsInsecure=true",
        ),
    ],
)
def test_a_ca_of_a_store_is_written_into_its_url(
    tmp_path: Path, url: str, fields: dict[str, Any], trusting: str
) -> None:
    assert load(tmp_path, pod="a", redis_url="redis://r", store_url=url, **fields).store_url == trusting


def test_a_ca_for_what_is_not_by_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"redis_ca_file: .* begins with rediss"):
        load(tmp_path, pod="a", redis_ca_file="/t/ca", **URLS)
    with pytest.raises(SettingsError, match=r"store_ca_file: .* not reached by TLS"):
        load(tmp_path, pod="a", store_ca_file="/t/ca", **URLS)
    with pytest.raises(SettingsError, match=r"store_ca_file: .* not reached by TLS"):
        load(
            tmp_path,
            pod="a",
            redis_url="redis://r",
            store_url="mongodb://a sqlite:///d",
            store_ca_file="/t/ca",
        )


def test_what_may_change_is_read_at_the_start_too(tmp_path: Path) -> None:
    file = tmp_path / "live.json"
    file.write_bytes(msgspec.json.encode({"limits": {"sends_per_s": 7}, "of_a_later_version": 1}))
    settings = load(tmp_path, pod="a", live_file=str(file), **URLS)
    assert settings.live == LiveSettings(limits=Limits(sends_per_s=7))
    file.write_bytes(b'{"limits": {"sends_per_s": 0}}')
    with pytest.raises(SettingsError, match=r"live.json: limits.sends_per_s must be more than 0"):
        load(tmp_path, pod="a", live_file=str(file), **URLS)
