"""The SQL adapter of both storage ports: SQLAlchemy Core, on SQLite now."""

from chatkernel.storage.sql.store import SqlStore, open_sql

__all__ = ["SqlStore", "open_sql"]
