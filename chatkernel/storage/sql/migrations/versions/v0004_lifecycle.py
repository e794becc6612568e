"""How long things live: what retention removed of a channel, jobs, and the digests of erased names.

Software of version 3 goes on beside it: it shows what is gone as a hole in the log.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, LargeBinary, Text, UniqueConstraint

revision = "0004"
down_revision = "0003"

_text = Text().with_variant(Text(collation="C"), "postgresql")


def _id(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, _text, primary_key=primary_key, nullable=False)


def _number(name: str, default: int | None = None, *, primary_key: bool = False) -> Column[int]:
    standard = None if default is None else str(default)
    return Column(
        name,
        BigInteger,
        primary_key=primary_key,
        autoincrement=False,
        nullable=False,
        server_default=standard,
    )


def upgrade() -> None:
    for name in ("floor_seq", "floor_messages", "retention_s"):
        op.add_column("channels", _number(name, 0))
    op.create_table(
        "jobs",
        Column("kind", _text, CheckConstraint("kind IN ('retention', 'erase', 'export')"), primary_key=True),
        _id("subject", primary_key=True),
        _id("job_id"),
        Column(
            "state",
            _text,
            CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')"),
            nullable=False,
        ),
        _number("created_at"),
        _number("updated_at"),
        _number("run_at"),
        _number("lease_until", 0),
        _number("attempt", 0),
        _number("failures", 0),
        _number("progress", 0),
        Column("cursor", _text, nullable=False),
        Column("error", _text, nullable=False),
        _number("expires_at", 0),
        UniqueConstraint("job_id", name="jobs_id"),
    )
    op.create_index("jobs_due", "jobs", ["state", "run_at"])
    op.create_table(
        "job_chunks",
        _id("job_id", primary_key=True),
        _number("attempt", primary_key=True),
        _number("number", primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )
    op.create_table(
        "erased",
        _id("digest", primary_key=True),
        _number("at"),
        sqlite_with_rowid=False,
    )
