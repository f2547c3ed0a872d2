"""Former generations: kept with all they held, until the next one is proved."""

import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition_generations import (
    list_generations,
    mark_files_deleted,
    mark_proved,
    mark_reopened,
)
from audit_platform.retention.partition_states import State
from tests.integration.retention.recording import (
    FILE,
    STEPS,
    advance,
    verified,
)
from tests.integration.retention.sealing import DAY, DUE, record_of

pytestmark = pytest.mark.integration


@pytest.fixture
def day(maint: Connection) -> None:
    """An open partition."""
    ensure_partitions(maint, [DAY])


@pytest.mark.usefixtures("day")
def test_former_generation_keeps_its_files_until_it_is_proved(
    maint: Connection, admin: Connection
) -> None:
    advance(maint, admin, STEPS.index(verified) + 1)
    mark_reopened(maint, record_of(maint), now=DUE)

    (former,) = list_generations(maint, DAY.name)
    assert (former.files, former.state, former.reopened_at) == ((FILE,), State.VERIFIED, DUE)
    assert not mark_files_deleted(maint, DAY.name, 1, now=DUE)
    assert mark_proved(maint, DAY.name, 1, now=DUE)
    assert not mark_proved(maint, DAY.name, 1, now=DUE)
    assert list_generations(maint)[0].proved_at == DUE
    assert mark_files_deleted(maint, DAY.name, 1, now=DUE)
    assert list_generations(maint) == []


@pytest.mark.usefixtures("day")
def test_reopened_record_claims_nothing_of_the_former_generation(
    maint: Connection, admin: Connection
) -> None:
    opened_at = record_of(maint).opened_at
    advance(maint, admin, len(STEPS))

    mark_reopened(maint, record_of(maint), now=DUE)

    row = record_of(maint)
    assert (row.state, row.generation, row.opened_at) == (State.OPEN, 2, opened_at)
    assert (row.n, row.root, row.leaf_digest, row.manifest_sha256) == (None, None, None, None)
    assert (row.files, dict(row.classes), row.verified_by) == ((), {}, None)
    assert {row.sealed_at, row.indexed_at, row.exported_at, row.verified_at} == {None}
    assert {row.detached_at, row.dropped_at, row.seal_checked_at} == {None}
