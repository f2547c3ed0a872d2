"""Connections for the tests of partitions."""

from collections.abc import Iterator

import pytest

from audit_platform.db.pool import Connection, connected
from tests.conftest import Database


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    """As the process that creates partitions."""
    with connected(database.maint_url, application="test maint") as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    """As an administrator who looks at everything."""
    with connected(database.admin_url, application="test admin") as conn:
        yield conn
