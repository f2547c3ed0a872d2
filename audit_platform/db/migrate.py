"""Bring a PostgreSQL server to the current schema: databases, revisions, passwords.

Here: what runs at start-up and in tests, as an administrator. Not here: partitions
(`retention/lifecycle.py`), the statements (`migrations/sql/*.sql`).
Guarantee: safe to run again and beside another run; revisions go forward only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import psycopg.sql
from alembic import command
from alembic.config import Config

from audit_platform.db.pool import connected, translated
from audit_platform.errors import WrongServerVersion

DatabaseRole = Literal["writer", "reader", "maint", "app"]
ROLES: Final[tuple[DatabaseRole, ...]] = ("writer", "reader", "maint", "app")
MIN_SERVER_VERSION: Final = 160_000
_MIGRATION_LOCK: Final = 0x41554454  # "AUDT"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrls:
    """One URL per role for a migrated database."""

    writer_url: str
    reader_url: str
    maint_url: str
    app_url: str


def create_database(admin_url: str, name: str) -> bool:
    """Create a database where it is missing; returns whether it was.

    Raises:
        DatabaseError: The administrator may not create databases.
    """
    with connected(admin_url, application="migrate") as connection, translated():
        if connection.execute("select from pg_database where datname = %s", [name]).fetchone():
            return False
        try:
            connection.execute(
                psycopg.sql.SQL("create database {} encoding 'UTF8' template template0").format(
                    psycopg.sql.Identifier(name)
                )
            )
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False  # another start was faster
    return True


def migrate(admin_url: str) -> None:
    """Run every revision that is missing, one transaction each, under an advisory lock.

    Raises:
        WrongServerVersion: The server is older than PostgreSQL 16.
        DatabaseError: A revision failed; it was rolled back.
    """
    with connected(admin_url, application="migrate") as connection, translated():
        check_version(connection.info.server_version)
        connection.execute("select pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        with resources.as_file(resources.files("audit_platform.db") / "migrations") as folder:
            command.upgrade(alembic_config(admin_url, folder), "head")


def alembic_config(admin_url: str, folder: Path) -> Config:
    """Alembic's configuration in memory; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["url"] = _with_driver(admin_url)
    return config


def check_version(server_version: int) -> None:
    """Refuse a server that is too old.

    Raises:
        WrongServerVersion: Names the version found and the setting.
    """
    if server_version < MIN_SERVER_VERSION:
        message = (
            f"PostgreSQL {server_version // 10_000} is too old, 16 or later is needed: "
            "set AUDIT_DATABASE_URL to a newer server"
        )
        raise WrongServerVersion(message)


def set_passwords(admin_url: str, passwords: Mapping[DatabaseRole, str]) -> DatabaseUrls:
    """Give the login roles their passwords; returns the URL of each.

    The SCRAM verifier is computed here; the plain text never leaves this process.
    """
    with connected(admin_url, application="migrate") as connection, translated():
        for role in ROLES:
            verifier = connection.pgconn.encrypt_password(
                passwords[role].encode(), f"audit_{role}".encode(), b"scram-sha-256"
            )
            connection.execute(
                psycopg.sql.SQL("alter role {} password {}").format(
                    psycopg.sql.Identifier(f"audit_{role}"), psycopg.sql.Literal(verifier.decode())
                )
            )
    urls = {
        f"{role}_url": with_login(admin_url, f"audit_{role}", passwords[role]) for role in ROLES
    }
    return DatabaseUrls(**urls)


def with_login(url: str, user: str, password: str) -> str:
    """Replace user and password of a URL; host, port, database and options stay."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc))


def with_database(url: str, database: str) -> str:
    """Replace the database of a URL."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _with_driver(url: str) -> str:
    """SQLAlchemy's spelling for psycopg 3, which Alembic uses; Dagster keeps psycopg2."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace(
        "postgres://", "postgresql+psycopg://", 1
    )
