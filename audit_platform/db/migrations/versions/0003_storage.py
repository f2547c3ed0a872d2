"""Storage life cycle: seals, former generations, retention rules, legal holds, restore drills."""

from audit_platform.db.migrations.run_sql import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("0003_storage.sql")
