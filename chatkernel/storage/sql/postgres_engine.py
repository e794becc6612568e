"""Connections to PostgreSQL: how each is made and set up, and what is refused before anything runs on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.storage.sql.postgres_errors import hide_values, is_database_error
from chatkernel.storage.sql.postgres_sql import escaped, unescaped
from chatkernel.storage.sql.postgres_url import PostgresOptions

SERVER_VERSION_MIN = 14
CONNECTION_MAX_AGE_S = 1800
"""Connections are made anew now and then: names of hosts may come to mean others."""
_WARNING = "01000"


class Link(asyncpg.Connection):  # type: ignore[misc]
    """A connection that remembers the server's warnings. There is one that matters: that it stopped waiting for the
    standby although the commit is to be there, too."""

    warned = False
    url = ""

    @staticmethod
    def note(link: Link, message: Any) -> None:
        if message.severity_en == "WARNING" and message.sqlstate == _WARNING:
            link.warned = True


def postgres_engine(urls: Sequence[str], options: PostgresOptions) -> AsyncEngine:
    """An engine whose transactions the runner begins and ends itself. `urls`: of all servers that may be the
    primary."""
    found = deque(urls)

    async def connect() -> Link:
        """Each in turn, with a time of its own: one that is frozen or cut off must not keep us from the next. The
        one that answers is asked first from then on."""
        for _ in range(len(found) - 1):
            try:
                return await _connect(found[0], options)
            except Exception as error:
                if not is_database_error(error):
                    raise
                found.rotate(-1)
        return await _connect(found[0], options)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="AUTOCOMMIT",
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=options.pool_wait_s,
        pool_recycle=CONNECTION_MAX_AGE_S,
        # The runner has ended its transaction, or closed the connection.
        pool_reset_on_return=None,
        # Those that are not needed are left to grow old.
        pool_use_lifo=True,
        # Errors are logged with their cause, which must not hold texts or password hashes.
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _refuse_useless(dbapi_connection: Any, _record: object, _proxy: object) -> None:
        link: Link = dbapi_connection.driver_connection
        if not link.is_closed() and link.url != found[0]:
            # Another server is the primary now. The one before it may have come back, and not know.
            link.terminate()
        if link.is_closed():
            raise DisconnectionError

    @event.listens_for(engine.sync_engine, "handle_error")
    def _hide(context: Any) -> None:
        hide_values(context.sqlalchemy_exception or context.original_exception)

    return engine


async def _connect(dsn: str, options: PostgresOptions) -> Link:
    try:
        link: Link = await asyncpg.connect(
            dsn,
            connection_class=Link,
            timeout=options.connect_timeout_s,
            # Whatever is asked for must be true: a standby may be behind.
            target_session_attrs="primary",
            server_settings=_settings(options),
        )
    except ValueError as error:
        if isinstance(error, OSError):
            raise  # A certificate that is not trusted is both.
        # Not chained: it may quote the URL.
        raise invalid("store_url", f"not usable ({type(error).__name__})") from None
    try:
        link.url = dsn
        _check(link)
        for kind in ("text", "varchar"):
            await link.set_type_codec(kind, schema="pg_catalog", encoder=escaped, decoder=unescaped)
        link.add_log_listener(Link.note)
    except BaseException:
        link.terminate()
        raise
    return link


def _settings(options: PostgresOptions) -> dict[str, str]:
    return {
        "synchronous_commit": "on",
        "statement_timeout": str(options.statement_timeout_ms),
        "lock_timeout": str(options.lock_timeout_ms),
        # A process that is frozen, or whose host is gone, must not hold its locks for ever.
        "idle_in_transaction_session_timeout": str(options.statement_timeout_ms),
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        # Our statements are short: compiling them takes longer than running them.
        "jit": "off",
        # Made for disks that turn, the default takes a whole table for cheaper than a few look-ups.
        "random_page_cost": "1.1",
        "application_name": "chatcluster",
    }


def _check(link: Link) -> None:
    """Raises ChatError(STORAGE_UNAVAILABLE) with what to do."""
    found = link.get_server_version()
    if found.major < SERVER_VERSION_MIN:
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"This is PostgreSQL {found.major}, and {SERVER_VERSION_MIN} or later is needed",
        )
    encoding = link.get_settings().server_encoding
    if encoding != "UTF8":
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"The database has the encoding {encoding}: create it with UTF8",
        )
