"""Events, their ledger, partitions, lease, imports, views and roles."""

from audit_platform.db.migrations.run_sql import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("0001_events.sql")
