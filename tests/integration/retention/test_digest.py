"""One pass over the rows of a table: exact, in bounded memory, of any table of events."""

import tracemalloc
from collections.abc import Callable

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import DatabaseError
from audit_platform.retention.digest import contents_of, digest_of
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_table import SealedContents
from tests.conftest import Database
from tests.integration.retention.sealing import (
    DAY,
    generate,
    groups_by_hand,
    leaves_in_sql,
    put,
    root_by_hand,
    standard,
    store_rows,
)

pytestmark = pytest.mark.integration

MANY = 30_000
MEMORY_LIMIT_BYTES = 6_000_000
"""Less than half of what 30,000 leaves and ids take as Python objects."""


def test_digest_is_the_one_of_the_storage_design(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 700)

    found = digest_of(maint, DAY.name)

    assert (found.n, found.min_id, found.max_id, found.leaf_digest) == leaves_in_sql(
        admin, DAY.name
    )


def test_detached_or_restored_table_is_read_as_well(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 50)
    attached = digest_of(maint, DAY.name)
    admin.execute(f"alter table audit.event detach partition audit.{DAY.name}".encode())
    admin.execute(f"create table audit.restored as select * from audit.{DAY.name}".encode())
    admin.execute("alter table audit.restored owner to audit_owner")

    assert digest_of(maint, DAY.name) == attached
    assert digest_of(maint, "restored") == attached


def test_digest_in_a_transaction_is_of_its_own_view(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """The drop compares and drops in one transaction."""
    store_rows(database, 5)

    with as_owner(maint):
        maint.execute(f"delete from audit.{DAY.name}".encode())
        inside = digest_of(maint, DAY.name)
        outside = leaves_in_sql(admin, DAY.name)

    assert (inside.n, outside[0]) == (0, 5)


def test_unknown_table_is_an_error(maint: Connection) -> None:
    with pytest.raises(DatabaseError):
        digest_of(maint, "event_19990101")


@pytest.mark.parametrize("pass_over", [digest_of, lambda c, t: contents_of(c, t, standard)])
def test_memory_does_not_grow_with_the_rows(
    database: Database,
    maint: Connection,
    admin: Connection,
    pass_over: Callable[[Connection, str], object],
) -> None:
    store_rows(database, 0)
    generate(admin, MANY)
    pass_over(maint, DAY.name)  # what is loaded or prepared once does not count

    tracemalloc.start()
    try:
        pass_over(maint, DAY.name)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < MEMORY_LIMIT_BYTES


def test_many_rows_of_many_groups_come_to_the_same_as_by_hand(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 0)
    generate(admin, MANY)

    contents = contents_of(maint, DAY.name, by_number)

    groups = groups_by_hand(admin, DAY.name, by_number)
    assert contents.n == MANY
    assert len(contents.groups) == len(groups) == 22
    assert contents.root == root_by_hand(groups)


def test_application_that_invents_actions_is_counted_in_the_right_groups(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """More actions than decisions are remembered at a time."""
    store_rows(database, 0)
    generate(admin, 20_000, actions=20_000)

    contents = contents_of(maint, DAY.name, by_number)

    expected = groups_by_hand(admin, DAY.name, by_number)
    assert contents.root == root_by_hand(expected)
    assert len(contents.classes) == 2_000
    assert contents.classes[("test", "test.19990")] == "tenth"


def test_rows_stored_by_two_sessions_are_in_one_order(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 0)
    with connected(database.admin_url, application="test") as other:
        ids = [put(conn, DAY.lo) for _ in range(50) for conn in (admin, other)]

    contents: SealedContents = contents_of(maint, DAY.name, standard)

    assert [str(contents.min_id), str(contents.max_id)] == [min(ids), max(ids)]


def by_number(_source: str, action: str) -> str:
    return "tenth" if action.endswith("0") else "standard"
