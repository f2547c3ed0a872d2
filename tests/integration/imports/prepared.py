"""Imports ready to run, and the rows they left."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from audit_platform.cli.import_session import ImportSession
from audit_platform.imports.file_import import FileImport
from audit_platform.imports.report import Rejection
from tests.conftest import Database


@dataclass
class Heard:
    """What the callbacks of an import heard."""

    rejections: list[Rejection] = field(default_factory=list[Rejection])


def prepare(session: ImportSession, path: Path, heard: Heard | None = None) -> FileImport:
    """Make the import of one file with the mapping of its format."""
    return session.prepare(
        path,
        file_format=None,
        mapping=None,
        on_progress=lambda _: None,
        on_rejection=(heard or Heard()).rejections.append,
    )


def rows_of(database: Database) -> list[dict[str, Any]]:
    """Read all events, hot and late, JSON columns as their text."""
    with psycopg.connect(database.admin_url) as connection:
        return (
            connection.cursor(row_factory=dict_row)
            .execute(
                "select *, changes::text as changes, metadata::text as metadata, "
                "context::text as context from audit.event_all order by timestamp, id"
            )
            .fetchall()
        )
