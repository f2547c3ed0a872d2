"""Readers are told of the archive files that may hold rows of their tenant."""

from audit_platform.db.migrations.run_sql import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("0005_reader_files.sql")
