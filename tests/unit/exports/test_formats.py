"""Each form gives back what was stored: CSV harmless, NDJSON and Parquet exact."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.exports import formats
from audit_platform.exports.cells import COLUMNS, cell_text, spreadsheet_safe
from audit_platform.exports.formats import ExportFormat, writing
from tests.unit.exports.rows import MemorySink, row

HOSTILE = "=cmd|' /C calc'!A0 \"q\" ; , \r\n\té日\u202e"
stored_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


def written(form: ExportFormat, *pages: list[dict[str, Any]]) -> bytes:
    sink = MemorySink()
    with writing(form, sink) as writer:
        for page in pages:
            writer.write(page)
    return sink.content.getvalue()


def table_of(content: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(content))


def test_csv_has_a_header_and_a_line_per_event() -> None:
    content = written(ExportFormat.CSV, [row(1), row(2)], [row(3)])

    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert tuple(lines[0]) == COLUMNS
    assert [line[COLUMNS.index("metadata")] for line in lines[1:]] == [
        '{"n": 1}',
        '{"n": 2}',
        '{"n": 3}',
    ]
    assert content.startswith(b'"id","timestamp"')
    assert content.endswith(b'"\r\n')


@given(st.lists(stored_text, min_size=1, max_size=5))
def test_csv_cells_come_back_with_a_quote_before_formulas(texts: list[str]) -> None:
    content = written(ExportFormat.CSV, [row(description=text) for text in texts])

    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    found = [line[COLUMNS.index("description")] for line in lines[1:]]
    assert found == [spreadsheet_safe(text) for text in texts]


def test_no_cell_of_a_hostile_event_is_a_formula() -> None:
    texts = ("tenant_id", "action", "entity_id", "user_label", "description", "metadata")
    content = written(ExportFormat.CSV, [row(**dict.fromkeys(texts, HOSTILE))])

    _, line = csv.reader(io.StringIO(content.decode(), newline=""))
    assert [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert line.count(f"'{HOSTILE}") == len(texts)


def test_search_without_events_gives_a_header_and_an_empty_file() -> None:
    assert written(ExportFormat.CSV).count(b"\r\n") == 1
    assert written(ExportFormat.NDJSON) == b""
    assert table_of(written(ExportFormat.PARQUET)).num_rows == 0


def test_ndjson_keeps_json_columns_byte_by_byte() -> None:
    metadata = '{"big": 12345678901234567890123, "far": 1e400, "same": 1.10,  "space": true}'
    content = written(ExportFormat.NDJSON, [row(metadata=metadata)])

    assert metadata.encode() in content
    assert content.count(b"\n") == 1


@given(stored_text)
def test_ndjson_gives_one_line_whatever_the_text(text: str) -> None:
    content = written(ExportFormat.NDJSON, [row(description=text)])

    assert content.count(b"\n") == 1
    assert json.loads(content)["description"] == text


def test_ndjson_leaves_nulls_out_and_writes_times_as_the_wire() -> None:
    found = json.loads(written(ExportFormat.NDJSON, [row(bulk_item_no=-5, sampled_rate=0.25)]))

    assert "description" not in found
    assert found["timestamp"] == "2026-11-22T11:59:58.999993Z"
    assert (found["bulk_item_no"], found["sampled_rate"]) == (-5, 0.25)
    assert found["id"] == str(row()["id"])


def test_parquet_has_the_schema_of_the_archive() -> None:
    assert table_of(written(ExportFormat.PARQUET, [row()])).schema.equals(ARROW_SCHEMA)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("metadata", '{"far": 1e400, "big": 12345678901234567890123}'),
        ("description", ""),
        ("description", None),
        ("description", HOSTILE),
        ("bulk_item_no", -(1 << 63)),
        ("producer_epoch", (1 << 63) - 1),
        ("severity", 5),
        ("sampled_rate", 0.25),
        ("bulk_action_id", UUID(int=(1 << 128) - 1)),
        ("bulk_action_id", None),
    ],
)
def test_parquet_gives_a_value_back_as_it_was(column: str, value: object) -> None:
    table = table_of(written(ExportFormat.PARQUET, [row() | {column: value}]))

    assert table.column(column).to_pylist() == [value]


def test_parquet_takes_ids_as_text_too() -> None:
    """Archived rows may give them so."""
    made = row()
    table = table_of(written(ExportFormat.PARQUET, [made | {"id": str(made["id"])}]))

    assert table.column("id").to_pylist() == [made["id"]]


def test_parquet_writes_row_groups_of_bounded_size() -> None:
    rows = [row(number) for number in range(formats.GROUP_ROWS // 1_000 + 1)]
    content = written(ExportFormat.PARQUET, *([rows] * 1_000))

    file = pq.ParquetFile(pa.BufferReader(content))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert sum(sizes) == 1_000 * len(rows)
    assert max(sizes) == formats.GROUP_ROWS
    assert len(sizes) == 2


def test_parquet_writes_large_events_early() -> None:
    large = row(metadata='"' + "x" * 60_000 + '"')
    count = formats.GROUP_BYTES // 60_000 + 10
    content = written(ExportFormat.PARQUET, [large] * count)

    assert pq.ParquetFile(pa.BufferReader(content)).metadata.num_row_groups == 2


def test_failed_writer_leaves_the_error_as_it_is() -> None:
    """Closing a Parquet file writes its end: after an error that must not fail again."""

    class Full(MemorySink):
        def _write_all(self, data: memoryview) -> None:
            if self.tell() > 100:
                raise OSError(28, "No space left on device")
            super()._write_all(data)

    sink = Full()
    with pytest.raises(OSError, match="No space left"), writing(ExportFormat.PARQUET, sink) as out:
        out.write([row(number) for number in range(formats.GROUP_ROWS)])


def test_text_of_a_row_is_the_same_in_csv_and_ndjson() -> None:
    made = row(user_label="é日", severity=3)
    found = json.loads(written(ExportFormat.NDJSON, [made]))

    cells = {name: cell_text(made[name]) for name in ("user_label", "timestamp", "received_at")}
    assert {name: found[name] for name in cells} == cells
