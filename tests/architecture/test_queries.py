"""Every named query has a caller, and prepares on the migrated schema."""

import re

import psycopg
import pytest

from audit_platform.db.queries import load_queries
from tests.architecture.source_tree import PACKAGE, PACKAGE_MODULES
from tests.conftest import Database

FILES = sorted(path.stem for path in (PACKAGE / "db" / "queries").glob("*.sql"))
QUERIES = [(file, name) for file in FILES for name in load_queries(file)]
PARAMETER = re.compile(r"%\((\w+)\)s")

every_query = pytest.mark.parametrize(("file", "name"), QUERIES)


@every_query
def test_query_has_a_caller(file: str, name: str) -> None:
    del file
    callers = [module.name for module in PACKAGE_MODULES if name in module.strings]

    assert callers, "call it or remove it"


@every_query
def test_name_says_what_the_query_does(file: str, name: str) -> None:
    del file

    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", name), "a verb and its object"


@pytest.mark.parametrize("file", FILES)
def test_statements_end_with_a_semicolon(file: str) -> None:
    """Without it, linters and people read two queries as one."""
    text = (PACKAGE / "db" / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    statements = re.split(r"^-- name:.*$", text, flags=re.MULTILINE)[1:]
    open_ends = [
        block for block in statements if not re.sub(r"--.*", "", block).rstrip().endswith(";")
    ]

    assert not open_ends


@pytest.mark.integration
def test_queries_prepare_on_the_migrated_schema(database: Database) -> None:
    refused: dict[str, str] = {}
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for file, name in QUERIES:
            try:
                connection.execute(
                    f"prepare {file}_{name} as {_numbered(load_queries(file)[name])}".encode()
                )
            except psycopg.Error as exc:
                refused[f"{file}.{name}"] = str(exc)

    assert not refused


def _numbered(statement: str) -> str:
    """Spell psycopg's named parameters the way PREPARE takes them: equal names, equal numbers."""
    names = list(dict.fromkeys(PARAMETER.findall(statement)))
    text = PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement)
    return text.replace("%%", "%")
