"""Lists on a terminal: nothing is cut, nothing steers the terminal."""

import pytest

from audit_platform.cli.listing import print_table

ID = "01a206b7-655f-7e1e-8d3c-0f24256ecd70"


def test_no_cell_is_cut_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    print_table(("hold", "case", "period", "reason"), [(ID, "2026-31", "all time", "court\x1b[2J")])

    title, row = capsys.readouterr().out.splitlines()
    assert title.split() == ["hold", "case", "period", "reason"]
    assert row.split() == [ID, "2026-31", "all", "time", "court\\x1b[2J"]


def test_table_without_rows_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("hold", "case"), [])

    assert capsys.readouterr().out == ""
