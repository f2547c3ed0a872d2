"""Events as table, NDJSON and CSV: exact where it must be, harmless everywhere."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.cli.event_output import COLUMNS, OutputFormat, make_printer
from audit_platform.cli.terminal_text import visible
from audit_platform.errors import InvalidQuery

HOSTILE = "\x1b[31mred\x1b[0m \u202egnp.exe\n\t\x07\u200b\x9b\u2028é日"


def _row(**override: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    return row | {
        "id": UUID("01893fb6-8ab8-7d89-a1a3-e981ef0380cb"),
        "timestamp": datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
        "tenant_id": "acme",
        "source": "user",
        "action": "order.create",
        "status": "success",
        "entity_type": "order",
        "entity_id": "42",
        "user_id": "7",
        "metadata": '{"plan":"pro","n":1.10,"big":1e400}',
        "context": '{"ip":"192.0.2.1"}',
        **override,
    }


def _printed(
    capsys: pytest.CaptureFixture[str], output: OutputFormat, *rows: dict[str, Any], **options: Any
) -> str:
    chosen = {"show": [], "is_operator": False, "width": 120} | options
    make_printer(output, **chosen).show(rows)
    return capsys.readouterr().out


def test_json_columns_keep_their_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    line = _printed(capsys, OutputFormat.JSON, _row())

    assert '"metadata":{"plan":"pro","n":1.10,"big":1e400}' in line
    assert '"timestamp":"2026-11-22T12:00:00.123456Z"' in line
    assert line.count("\n") == 1


def test_json_of_hostile_text_is_one_line_that_parses_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = _printed(capsys, OutputFormat.JSON, _row(user_label=HOSTILE))

    assert json.loads(line)["user_label"] == HOSTILE
    assert line.count("\n") == 1


@pytest.mark.parametrize("width", [80, 120, 200])
def test_table_fits_the_terminal_and_spells_out_what_would_steer_it(
    capsys: pytest.CaptureFixture[str], width: int
) -> None:
    row = _row(user_label=HOSTILE, description="x" * 500, entity_label="[bold]y" * 20)

    table = _printed(capsys, OutputFormat.TABLE, row, width=width, is_operator=True)

    assert all(len(line) <= width for line in table.splitlines())
    assert not set(table) & set("\x1b\u202e\x07\u200b\x9b\u2028\t")
    assert "2026-11-22 12:00:00Z" in table


def test_shown_fields_may_be_paths(capsys: pytest.CaptureFixture[str]) -> None:
    show = ["action,metadata.n", "context.ip", "user", "entity"]

    table = _printed(capsys, OutputFormat.TABLE, _row(), show=show)
    line = _printed(capsys, OutputFormat.JSON, _row(), show=show)

    assert "1.10" in table
    assert '{"action":"order.create","metadata.n":1.10,"context.ip":"192.0.2.1"' in line


@pytest.mark.parametrize("field", ["colour", "metadata", "metadata..x", "action.x", "\x1b[0m"])
def test_unknown_field_is_refused(field: str) -> None:
    if field == "metadata":
        assert make_printer(OutputFormat.JSON, [field], is_operator=False)
        return
    with pytest.raises(InvalidQuery, match="--show"):
        make_printer(OutputFormat.CSV, [field], is_operator=False)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "=cmd|' /C calc'!A0"])
def test_csv_cell_that_would_run_gets_a_prefix_and_quotes(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    printed = _printed(capsys, OutputFormat.CSV, _row(user_label=text), show=["user_label"])

    assert printed.startswith('"user_label"\r\n"\'')
    assert list(csv.reader(io.StringIO(printed, newline="")))[1] == [f"'{text}"]


def test_csv_has_one_header_however_often_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    printer = make_printer(OutputFormat.CSV, ["action"], is_operator=False)
    printer.show([_row()])
    printer.show([_row()])

    assert capsys.readouterr().out.splitlines() == ['"action"', '"order.create"', '"order.create"']


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_visible_text_is_printable_and_plain_text_stays(text: str) -> None:
    shown = visible(text)

    assert shown.isprintable() or all(c == " " or c.isprintable() or c.isspace() for c in shown)
    assert not set(shown) & set("\x1b\r\n\t\u202e\u2066\u200b\u2028\x9b")
    if text.isascii() and text.isprintable():
        assert shown == text
