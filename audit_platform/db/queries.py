"""Named queries: loads `db/queries/<file>.sql`.

Here: the loader and the form of a file. Each query starts with `-- name: <what_it_does>` and
`-- description: <one line>`; parameters are `%(name)s`. Not here: DDL, statements on temporary
tables and COPY, which cannot be prepared and are composed beside their caller.
Guarantee: a name is unique in its file and every query has a description.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import LiteralString, cast

_NAME = "-- name:"
_DESCRIPTION = "-- description:"


@cache
def load_queries(file: str) -> Mapping[str, LiteralString]:
    """Read one file of queries, once per process.

    Args:
        file: Name below `db/queries/`, without `.sql`.

    Returns:
        Statement by name, comments left out.

    Raises:
        ValueError: A name occurs twice, or a query has no description or no statement.
    """
    text = resources.files("audit_platform.db").joinpath("queries", f"{file}.sql").read_text()
    queries: dict[str, LiteralString] = {}
    for name, statement in _parse(text):
        if name in queries:
            raise ValueError(f"{file}.sql: the name {name!r} occurs twice")
        queries[name] = statement
    return MappingProxyType(queries)


def _parse(text: str) -> Iterator[tuple[str, LiteralString]]:
    _, *blocks = f"\n{text}".split(f"\n{_NAME}")
    for block in blocks:
        name, description, *body = (line.strip() for line in block.splitlines())
        if not description.startswith(_DESCRIPTION):
            raise ValueError(f"query {name!r}: the second line must start with {_DESCRIPTION!r}")
        statement = "\n".join(line for line in body if line and not line.startswith("--"))
        if not statement:
            raise ValueError(f"query {name!r} has no statement")
        # The text ships with the package; no part of it comes from outside.
        yield name, cast("LiteralString", statement.rstrip(";"))
