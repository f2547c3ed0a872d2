"""Completeness: numbers by fate, folding, watermarks, sampled counts."""

from audit_platform.db.migrations.run_sql import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("0002_completeness.sql")
