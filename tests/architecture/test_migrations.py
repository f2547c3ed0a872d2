"""Migrations: numbered without gaps, forward only, up from empty, repeatable."""

import re
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from audit_platform.db import migrate
from audit_platform.local.postgres import PostgresServer
from tests.architecture.source_tree import PACKAGE, Module, modules

MIGRATIONS = PACKAGE / "db" / "migrations"
SQL_FILES = sorted((MIGRATIONS / "sql").glob("*"))
REVISIONS = [m for m in modules(MIGRATIONS / "versions") if m.path.name != "__init__.py"]


def test_files_are_numbered_without_gaps() -> None:
    names = [path.name for path in SQL_FILES]

    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) for name in names)


def test_each_file_has_its_revision() -> None:
    assert [m.path.stem for m in REVISIONS] == [path.stem for path in SQL_FILES]


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda revision: revision.path.stem)
def test_revision_runs_its_file_and_goes_forward_only(revision: Module) -> None:
    text = revision.text

    assert f'"{revision.path.stem}.sql"' in text
    assert "def downgrade" not in text, "a mistake is mended by the next revision"


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without any table."""
    config = postgres_server.config
    name = f"empty_{uuid4().hex[:12]}"
    migrate.create_database(config.url("postgres"), name)
    yield config.url(name)
    with psycopg.connect(config.url("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())


@pytest.mark.integration
def test_all_revisions_run_from_an_empty_database(empty_database_url: str) -> None:
    migrate.migrate(empty_database_url)

    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("select to_regclass('audit.event') is not null").fetchone()
    assert found == (True,)


@pytest.mark.integration
def test_repeated_migration_changes_nothing(empty_database_url: str) -> None:
    migrate.migrate(empty_database_url)
    before = _schema_of(empty_database_url)

    migrate.migrate(empty_database_url)

    assert _schema_of(empty_database_url) == before


def _schema_of(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select attrelid::regclass::text, attname, atttypid::regtype::text, attnotnull"
            " from pg_attribute join pg_class c on c.oid = attrelid"
            " where c.relnamespace = 'audit'::regnamespace order by 1, 2"
        ).fetchall()
