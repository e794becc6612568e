"""TLS to PostgreSQL, as the URL says it in libpq's words."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.postgres import Postgres, fresh_database, postgres_server

from chatkernel.errors import ChatError, Code
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore

pytestmark = pytest.mark.stores


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for `localhost` and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Postgres, Path]]:
    with postgres_server() as started:
        certificate, key = self_signed(tmp_path)
        owner = started.data.stat()
        for path in (certificate, key):
            copied = shutil.copy(path, started.folder)
            os.chown(copied, owner.st_uid, owner.st_gid)
            os.chmod(copied, 0o600)
        started.stop()
        started.start(
            ssl="on",
            ssl_cert_file=started.folder / certificate.name,
            ssl_key_file=started.folder / key.name,
        )
        yield started, certificate


async def test_a_server_with_the_right_certificate_is_spoken_to_by_tls(
    server: tuple[Postgres, Path],
) -> None:
    postgres, certificate = server
    url = postgres.url(fresh_database(postgres), sslmode="verify-full", sslrootcert=certificate)
    store = await open_store(url.replace("127.0.0.1", "localhost"))
    assert isinstance(store, SqlStore)
    await store.ensure_schema()
    asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await store._db.look(lambda conn: conn.exec_driver_sql(asked).scalar()) is True
    await store.aclose()


async def test_a_server_with_another_certificate_is_refused(
    server: tuple[Postgres, Path], tmp_path: Path
) -> None:
    postgres, _ = server
    (tmp_path / "other").mkdir()
    other, _ = self_signed(tmp_path / "other")
    url = postgres.url(sslmode="verify-full", sslrootcert=other)
    store = await open_store(url.replace("127.0.0.1", "localhost"))
    with pytest.raises(ChatError) as refused:
        await store.check()
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    await store.aclose()
