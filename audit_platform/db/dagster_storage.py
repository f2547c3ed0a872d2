"""The database of Dagster's own storage: its login, its database, its vacuum settings.

Here: what an administrator does for Dagster. Not here: the audit schema (`migrate.py`), Dagster's
tables (Dagster makes them).
Guarantee: safe to run again; Dagster's login owns its own database and has no right in ours.
"""

from typing import LiteralString

import psycopg
import psycopg.sql

from audit_platform.db.migrate import create_database, with_database, with_login
from audit_platform.db.pool import Connection, connected, translated

LOGIN: LiteralString = "audit_dagster"
# The default of 0.2 lets a million dead rows stand before the first vacuum of a large log. Each
# tick and each step of a run leaves a dead row: swept early, its room is used again.
_SWEPT_EARLY: tuple[LiteralString, ...] = ("event_logs", "job_ticks", "runs")


def create_dagster_storage(admin_url: str, *, database: str, password: str) -> str:
    """Make login and database for Dagster where missing, set the password; returns the URL.

    Args:
        admin_url: URL of an administrator, any database.
        database: Name of Dagster's database on the same server.
        password: Of the login.

    Raises:
        DatabaseError: The administrator may create neither roles nor databases.
    """
    create_database(admin_url, database)
    with connected(admin_url, application="migrate") as connection, translated():
        _create_login(connection)
        _join_login(connection)
        verifier = connection.pgconn.encrypt_password(
            password.encode(), LOGIN.encode(), b"scram-sha-256"
        )
        connection.execute(
            psycopg.sql.SQL("alter role {} password {}").format(
                psycopg.sql.Identifier(LOGIN), psycopg.sql.Literal(verifier.decode())
            )
        )
        for statement in ("alter database {} owner to {}", "grant all on database {} to {}"):
            connection.execute(
                psycopg.sql.SQL(statement).format(
                    psycopg.sql.Identifier(database), psycopg.sql.Identifier(LOGIN)
                )
            )
    return with_login(with_database(admin_url, database), LOGIN, password)


def tune_dagster_storage(dagster_url: str) -> None:
    """Vacuum Dagster's busy tables early; does nothing until Dagster has made them."""
    with connected(dagster_url, application="tune") as connection, translated():
        for table in _SWEPT_EARLY:
            connection.execute(
                psycopg.sql.SQL(
                    "alter table if exists {} set (autovacuum_vacuum_scale_factor = 0.02)"
                ).format(psycopg.sql.Identifier(table))
            )


def _create_login(connection: Connection) -> None:
    try:
        connection.execute(
            psycopg.sql.SQL("create role {} login").format(psycopg.sql.Identifier(LOGIN))
        )
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # made before, or by a start beside this one


def _join_login(connection: Connection) -> None:
    """Let an administrator without superuser rights hand the database over."""
    row = connection.execute(
        "select rolsuper from pg_roles where rolname = current_user"
    ).fetchone()
    if row is not None and not row[0]:
        connection.execute(
            psycopg.sql.SQL("grant {} to current_user").format(psycopg.sql.Identifier(LOGIN))
        )
