"""The SQL adapter of both storage ports: SQLAlchemy Core, on SQLite and on PostgreSQL."""

from chatkernel.storage.sql.store import SqlStore, open_postgres, open_sql

__all__ = ["SqlStore", "open_postgres", "open_sql"]
