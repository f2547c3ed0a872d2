"""Connections and an archive for the tests of this directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import ensure_partitions
from tests.conftest import Database
from tests.integration.retention.sealing import DAY


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test") as conn:
        ensure_partitions(conn, [DAY])
        yield conn


@pytest.fixture
def admin(database: Database) -> "Iterator[psycopg.Connection[Any]]":
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "archive").as_uri())
