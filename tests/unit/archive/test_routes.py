"""Each row goes to one file: by date, class and tenant, in the order of the rows."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from audit_platform.archive.routes import FileKey, by_day, by_file, day_of
from tests.unit.archive.batches import LO, batch_of, row

DAY = LO.date()


def class_of(source: str, action: str) -> str:
    return {"login": "short", "pay": "long"}.get(action, "standard") if source == "app" else "other"


def own_files(tenant_id: str, retention_class: str) -> str | None:
    return tenant_id if (tenant_id, retention_class) == ("globex", "short") else None


def shared_files(_tenant_id: str, _retention_class: str) -> None:
    return None


def seconds_of(rows: pa.RecordBatch) -> list[int]:
    return [int((moment - LO).total_seconds()) for moment in rows["timestamp"].to_pylist()]


def test_rows_are_split_by_class_and_tenants_with_own_rules() -> None:
    tenants = ["acme", "acme", "globex", "globex", "globex", "zeta"]
    actions = ["login", "pay", "login", "pay", "login", "login"]
    batch = batch_of(
        [
            row(number, tenant_id=tenant, source="app", action=action)
            for number, (tenant, action) in enumerate(zip(tenants, actions, strict=True))
        ]
    )

    found = {key: seconds_of(part) for key, part in by_file(batch, DAY, class_of, own_files)}

    assert found == {
        FileKey(day=DAY, retention_class="long", tenant=None): [1, 3],
        FileKey(day=DAY, retention_class="short", tenant="globex"): [2, 4],
        FileKey(day=DAY, retention_class="short", tenant=None): [0, 5],
    }


def test_batch_of_one_class_is_passed_on_as_it_is() -> None:
    batch = batch_of([row(number) for number in range(3)])

    ((key, part),) = by_file(batch, DAY, class_of, shared_files)

    assert key == FileKey(day=DAY, retention_class="other", tenant=None)
    assert part is batch


def test_source_and_action_are_not_mixed_up() -> None:
    batch = batch_of([row(0, source="app", action="login"), row(1, source="a", action="pplogin")])

    found = {key.retention_class for key, _ in by_file(batch, DAY, class_of, shared_files)}

    assert found == {"short", "other"}


def test_partition_of_a_day_is_one_date_without_looking_at_rows() -> None:
    batch = batch_of([row(0)])

    ((day, part),) = by_day(batch, first=LO, last=LO + timedelta(hours=23))

    assert (day, part is batch) == (DAY, True)


def test_partition_of_a_week_is_split_at_midnight_utc() -> None:
    before = datetime(2025, 8, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    after = before + timedelta(microseconds=1)
    batch = batch_of([row(0), row(1, timestamp=before), row(2, timestamp=after)])

    found = [
        (day, part.num_rows) for day, part in by_day(batch, first=LO, last=LO + timedelta(days=7))
    ]

    assert found == [(date(2025, 8, 28), 2), (date(2025, 8, 29), 1)]


def test_date_of_a_moment_is_that_of_utc() -> None:
    assert day_of(datetime.fromisoformat("2025-08-29T01:30:00+02:00")) == date(2025, 8, 28)
