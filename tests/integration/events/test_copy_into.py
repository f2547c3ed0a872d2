"""What the server answers to a COPY or an insert decides the path: each answer has its error."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import polars as pl
import pytest

from audit_platform.db.pool import transaction
from audit_platform.errors import PartitionMissing, Redelivered, RowCountMismatch, RowRefused
from audit_platform.events.copy_rows import COLUMNS
from audit_platform.events.merge_rows import EVENT, ROW_NO, copy_into
from tests.factories import event
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of

pytestmark = pytest.mark.integration


def _rows(*events: dict[str, object]) -> pl.DataFrame:
    now = pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC"))
    frame = frame_of(events).rows.with_row_index(ROW_NO, offset=100)
    return frame.with_columns(pl.lit(str(uuid4())).alias("batch_id"), now.alias("ingested_at"))


def _copy(writer: Writer, rows: pl.DataFrame) -> None:
    with transaction(writer.connection):
        copy_into(writer.connection, EVENT, COLUMNS, rows)


def test_a_key_that_is_stored_means_redelivered(writer: Writer) -> None:
    rows = _rows(event(), event())
    _copy(writer, rows)

    with pytest.raises(Redelivered):
        _copy(writer, rows)


def test_a_row_outside_every_partition_means_partition_missing(writer: Writer) -> None:
    with pytest.raises(PartitionMissing):
        _copy(writer, _rows(event(timestamp=datetime.now(UTC) - timedelta(days=99))))


def test_fewer_rows_than_sent_mean_a_row_count_mismatch(writer: Writer, shard: Shard) -> None:
    shard.sql.execute(
        b"create function swallow() returns trigger language plpgsql as"
        b" $$ begin return null; end $$;"
        b"create trigger swallow before insert on audit.event"
        b" for each row execute function swallow()"
    )

    with pytest.raises(RowCountMismatch) as caught:
        _copy(writer, _rows(event()))

    assert (caught.value.fields["sent"], caught.value.fields["stored"]) == (1, 0)


def test_a_refused_row_is_named_by_its_number_in_the_batch(writer: Writer) -> None:
    rows = _rows(event(tenant_id="a"), event(tenant_id="b"), event(tenant_id="c"))
    too_long = pl.when(pl.col("tenant_id") == "b").then(pl.lit("x" * 101)).otherwise("user_id")

    with pytest.raises(RowRefused) as caught:
        _copy(writer, rows.with_columns(too_long.alias("user_id")))

    assert caught.value.constraint == "event_lengths"
    assert caught.value.fields[ROW_NO] == 101
