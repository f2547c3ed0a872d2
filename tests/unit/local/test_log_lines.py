"""Which lines an operator sees, and that they are safe to print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.local.log_lines import LineFormat, TroubleFilter, printable

HARMLESS = [
    (LineFormat.DAGSTER, "2026-11-22 19:15:18 +0000 - dagster.daemon - INFO - Checking"),
    (LineFormat.DAGSTER, "INFO:     Application startup complete."),
    (LineFormat.POSTGRES, "2026-11-22 19:26:19.290 UTC [22] LOG:  aborting any transactions"),
    (LineFormat.POSTGRES, "2026-11-22 19:26:19.290 UTC [22] ERROR:  duplicate key value"),
    (LineFormat.REDIS, "21993:M 22 Nov 2026 19:26:19.267 * Calling fsync() on the AOF file."),
    (LineFormat.REDIS, "21993:C 22 Nov 2026 19:26:19.267 # oO0OoO0OoO0Oo Redis is starting"),
]
TROUBLE = [
    (LineFormat.DAGSTER, "2026-11-22 19:15:18 +0000 - dagster - ERROR - ingest failed"),
    (LineFormat.DAGSTER, "2026-11-22 19:15:18 +0000 - dagster - WARNING - slow"),
    (LineFormat.DAGSTER, "Traceback (most recent call last):"),
    (LineFormat.POSTGRES, "2026-11-22 19:26:19.290 UTC [22] PANIC:  could not write"),
    (LineFormat.POSTGRES, "2026-11-22 19:26:19.290 UTC [22] FATAL:  no room"),
    (LineFormat.REDIS, "21993:M 22 Nov 2026 19:26:19.267 # Error writing to the AOF file"),
]


@pytest.mark.parametrize(("line_format", "line"), HARMLESS)
def test_harmless_line_is_kept_back(line_format: LineFormat, line: str) -> None:
    assert not TroubleFilter(line_format).passes(line, now_s=0.0)


@pytest.mark.parametrize(("line_format", "line"), TROUBLE)
def test_trouble_is_shown(line_format: LineFormat, line: str) -> None:
    assert TroubleFilter(line_format).passes(line, now_s=0.0)


def test_lines_after_an_error_go_with_it_until_the_next_message() -> None:
    shown = TroubleFilter(LineFormat.DAGSTER)
    lines = [
        "t - dagster - INFO - before",
        "t - dagster - ERROR - it broke",
        '  File "x.py", line 1, in f',
        "ValueError: no",
        "t - dagster - INFO - after",
        "and its second line",
    ]

    assert [shown.passes(line, now_s=0.0) for line in lines] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_repeated_trouble_is_shown_once_a_minute() -> None:
    shown = TroubleFilter(LineFormat.DAGSTER)
    lines = [f"t - dagster - ERROR - attempt {number} failed" for number in range(4)]

    passed = [shown.passes(line, now_s=20.0 * at) for at, line in enumerate(lines)]

    assert passed == [True, False, False, True]


def test_details_of_a_repeated_trouble_stay_away_with_it() -> None:
    shown = TroubleFilter(LineFormat.POSTGRES)
    lines = ["1 WARNING:  odd", "1 DETAIL:  so it is"] * 2

    assert [shown.passes(line, now_s=1.0) for line in lines] == [True, True, False, False]


@pytest.mark.parametrize(
    ("line_format", "line"),
    [
        (LineFormat.POSTGRES, "t [1] FATAL:  the database system is starting up"),
        (LineFormat.POSTGRES, "t [1] FATAL:  terminating connection due to administrator command"),
        (LineFormat.REDIS, "1:M 22 Nov 2026 20:06:06.393 # WARNING Memory overcommit; may fail"),
    ],
)
def test_noise_of_a_restart_is_kept_back(line_format: LineFormat, line: str) -> None:
    assert not TroubleFilter(line_format).passes(line, now_s=0.0)


def test_colours_are_removed() -> None:
    assert printable("\x1b[32m19:15\x1b[0m - \x1b[34mINFO\x1b[0m - ready") == "19:15 - INFO - ready"


@given(st.text())
def test_printed_line_is_one_line_without_control_characters(text: str) -> None:
    line = printable(text)

    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    assert "\u202e" not in line


@given(st.sampled_from(list(LineFormat)), st.lists(st.text(max_size=80), max_size=20))
def test_no_line_breaks_the_filter(line_format: LineFormat, lines: list[str]) -> None:
    shown = TroubleFilter(line_format)

    assert all(isinstance(shown.passes(line, now_s=0.0), bool) for line in lines)
