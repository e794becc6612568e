"""How the tables came to be, in Alembic's form: one chain of revisions for both dialects, in `versions/`.

Revisions are numbered, and the number of the last one that was run stands in the table `schema_version`: it is what
software of any age looks at, so there is no second mark of Alembic's own beside it. A revision does not use
`schema.py`, which goes on changing.
"""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


def upgrade(conn: Connection, version: int, folder: Path = FOLDER) -> int:
    """Run the revisions after `version`, in the caller's transaction; the number of the last one there is."""
    revisions = list(ScriptDirectory(str(folder)).walk_revisions())
    with Operations.context(MigrationContext.configure(conn)):
        for revision in reversed(revisions):
            if int(revision.revision) > version:
                revision.module.upgrade()
    return int(revisions[0].revision)
