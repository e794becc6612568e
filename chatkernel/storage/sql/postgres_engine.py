"""Connections to PostgreSQL: how each is made and set up, and what is refused before anything runs on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.storage.sql.postgres_errors import hide_values, is_database_error
from chatkernel.storage.sql.postgres_sql import escaped, unescaped
from chatkernel.storage.sql.postgres_standby import Doubt
from chatkernel.storage.sql.postgres_url import PostgresOptions

SERVER_VERSION_MIN = 14
CONNECTION_MAX_AGE_S = 1800
"""Connections are made anew now and then: names of hosts may come to mean others."""
_WARNING = "01000"
_WHO = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8), pg_postmaster_start_time()"


class Link(asyncpg.Connection):  # type: ignore[misc]
    """A connection that remembers the server's warnings. There is one that matters: that it stopped waiting for the
    standby although the commit is to be there, too."""

    warned = False
    timeline = 0
    """It is higher on a server that was promoted than on the one that was the primary before it."""
    server_started_at: datetime | None = None
    trust = 0
    """As of which doubt about the servers it was made."""
    was_ended = False
    """By us."""

    def terminate(self) -> None:
        self.was_ended = True
        super().terminate()

    @staticmethod
    def note(link: Link, message: Any) -> None:
        if message.severity_en == "WARNING" and message.sqlstate == _WARNING:
            link.warned = True


class Servers:
    """Those that may be the primary, and which of them is."""

    def __init__(self, urls: Sequence[str], options: PostgresOptions) -> None:
        self._urls, self._options = deque(urls), options
        self._timeline = self._trust = 0
        """The highest timeline that was seen, and how often an answer failed to come."""
        self._started_at: datetime | None = None
        self.doubt: Doubt | None = None
        """That of the runner whose connections these are."""

    async def connect(self) -> Link:
        """Each in turn, with a time of its own: one that is frozen or cut off must not keep us from the next. The
        one that is the primary is asked first from then on."""
        failure: Exception = ConnectionError("no server")
        trust = self._trust
        for url in list(self._urls):
            try:
                link = await _connect(url, self._options)
            except Exception as error:
                if not is_database_error(error):
                    raise
                failure = error
                continue
            if link.timeline < self._timeline:
                link.terminate()
                failure = ConnectionError("another server was promoted")
                continue
            self._timeline, link.trust = link.timeline, trust
            if self.doubt is not None and link.server_started_at != self._started_at:
                # Perhaps while no connection was there to be lost.
                self.doubt.arose()
            self._started_at = link.server_started_at
            while self._urls[0] != url:
                self._urls.rotate(-1)
            return link
        raise failure

    def distrust(self, link: Link) -> None:
        """It gave no answer, or nothing came of it. Its server may have been replaced without knowing, and would then
        never commit again: all connections from before are given up, and the other servers are asked first."""
        if len(self._urls) > 1 and link.trust == self._trust:
            self._trust += 1
            self._urls.rotate(-1)

    def lost(self, link: Link) -> None:
        """It was found closed, while nothing was asked of it."""
        if self.doubt is not None and not link.was_ended:
            self.doubt.arose()

    def trusts(self, link: Link) -> bool:
        return link.trust == self._trust and link.timeline >= self._timeline


def postgres_engine(servers: Servers, options: PostgresOptions) -> AsyncEngine:
    """An engine whose transactions the runner begins and ends itself."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=servers.connect,
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
        if not servers.trusts(link):
            link.terminate()
        if link.is_closed():
            servers.lost(link)
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
        _check(link)
        timeline, link.server_started_at = await link.fetchrow(_WHO)
        link.timeline = int(timeline, 16)
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
        # Each of our statements looks up the rows of its keys by an index, and shall do so from the first day on:
        # while tables are small, or nothing is known of them, reading all looks cheaper, and that plan may stay.
        "enable_seqscan": "off",
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
