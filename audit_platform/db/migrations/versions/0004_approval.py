"""Approval: acts that need the word of a second person."""

from audit_platform.db.migrations.run_sql import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("0004_approval.sql")
