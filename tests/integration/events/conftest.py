"""Fixtures of tests that store frames without a stream."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Database
from tests.integration.events.store import Writer, open_writer


@pytest.fixture
def make_writer(database: Database) -> Iterator[Callable[..., Writer]]:
    """Open writers; each takes the lease from the one before."""
    writers: list[Writer] = []

    def make(**options: Any) -> Writer:
        writers.append(open_writer(database.writer_url, **options))
        return writers[-1]

    yield make
    for writer in writers:
        writer.connection.close()


@pytest.fixture
def writer(make_writer: Callable[..., Writer]) -> Writer:
    """One writer that holds the lease of shard 0."""
    return make_writer()
