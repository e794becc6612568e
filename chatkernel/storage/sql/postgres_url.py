"""What a PostgreSQL URL says: where the database is, for asyncpg, and how it is used, for us."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from chatkernel.errors import invalid


class PostgresOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the URL that are ours. All others are libpq's (`sslmode`, `sslrootcert`,
    `target_session_attrs`, ...) or the server's settings, and go to asyncpg."""

    pool_size: int = 8
    """Connections that this process may have open."""
    pool_wait_s: float = 2.0
    """How long an operation waits for one of them until it is told that the store is busy."""
    connect_timeout_s: float = 3.0
    timeout_s: float = 5.0
    """How long one transaction may take. The server is told four fifths of it, so that what is merely slow is undone
    there; only what does not answer at all loses its connection, and then nobody knows the outcome."""

    @property
    def statement_timeout_ms(self) -> int:
        return int(self.timeout_s * 800)

    @property
    def lock_timeout_ms(self) -> int:
        return int(self.timeout_s * 600)


def parse_postgres_url(url: str) -> tuple[list[str], PostgresOptions]:
    """The URL in asyncpg's form for each of its hosts, and the options. Raises ChatError(INVALID_FIELD), which never
    quotes the URL."""
    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        # Not chained: what the library says of a URL that it cannot read may be a piece of the password.
        raise invalid("store_url", "not a URL") from None
    if not parts.path.strip("/"):
        raise invalid("store_url", "name a database, as in postgresql://user@host/chat")
    ours = {name: given.pop(name) for name in PostgresOptions.__struct_fields__ if name in given}
    try:
        options = msgspec.convert(ours, PostgresOptions, strict=False)
    except msgspec.ValidationError as error:
        raise invalid("store_url", str(error)) from error
    for name in PostgresOptions.__struct_fields__:
        if getattr(options, name) <= 0:
            raise invalid("store_url", f"{name} must be more than 0")
    who, at, hosts = parts.netloc.rpartition("@")
    query = urlencode(given)
    return [
        parts._replace(scheme="postgresql", netloc=who + at + host, query=query).geturl()
        for host in hosts.split(",")
    ], options
