"""${message}."""

from audit_platform.db.migrations.run_sql import run_sql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Execute the SQL file of the same name."""
    run_sql("${up_revision}_${slug}.sql")
