"""Screens decoded events: which lines are not plainly good, by vectorised checks.

Here: one cheap expression per rule, each true for every line that breaks the rule, and for as few
others as is cheap. Not here: verdicts; a suspect goes through `events/normalise.py`, which
stores it after all or names the reason.
Guarantee: a line that is no suspect can be stored.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from audit_platform.events.event import JSON_FIELDS, TEXT_LIMITS, ActorType, EventStatus
from audit_platform.events.normalise import FrameLimits

LINE: Final = "line"
CANONICAL_TIME: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9][.][0-9]{6}Z$"
_UUID7: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
_UUID: Final = "^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# As plain words: members of a StrEnum would turn the comparison into a cast that fails.
_ENUMS: Final = {
    "status": [word.value for word in EventStatus],
    "actor_type": [word.value for word in ActorType],
}
_JSON_SHAPES: Final = {"changes": r"^[{\[]", "metadata": "^[{]", "context": "^[{]"}
_NON_EMPTY: Final = ("tenant_id", "source", "action")
# Below, neither digits nor an exponent of three digits leave the range of numeric (json_text.py).
_PLAIN_BYTES: Final = 15_000
# The first finds nearly all candidates fast, many of them hexadecimal ids; the second sorts those.
_LARGE_EXPONENT: Final = ("[0-9][eE][+-]?[0-9]{4}", r"[:\[, \t\n\r][0-9.-]*[0-9][eE][+-]?[0-9]{4}")
_SMALLEST_MEMBER_BYTES: Final = 4  # a key and its value: "":0


def find_suspects(
    rows: pl.DataFrame, lines: pl.Series, *, now: datetime, limits: FrameLimits
) -> set[int]:
    """Find rows that may break a rule.

    Args:
        rows: Decoded events: texts as sent, `timestamp` null where it is not canonical, JSON
            columns null where absent.
        lines: String, the lines of `rows`; null where they are not UTF-8.
        now: Aware; times further ahead than tolerated are suspect.
        limits: Of one event.

    Returns:
        Row numbers.
    """
    latest = now + timedelta(seconds=limits.future_tolerance_s)
    checks = [
        *_line_checks(limits),
        *_text_checks(rows),
        *_json_checks(rows),
        *_identity_checks(rows, latest),
    ]
    is_suspect = pl.any_horizontal(checks).alias("is_suspect")
    found = rows.with_columns(lines.alias(LINE)).select(is_suspect)["is_suspect"].arg_true()
    exponents = (index for name in JSON_FIELDS for index in _with_large_exponent(rows[name]))
    return {*found, *_crowded(lines, limits), *exponents}


def _line_checks(limits: FrameLimits) -> Iterator[pl.Expr]:
    line = pl.col(LINE)
    yield line.is_null()
    yield line.str.len_bytes() > min(limits.max_event_bytes, _PLAIN_BYTES)
    # Also true for an escaped backslash before u0000.
    yield line.str.contains("\\u0000", literal=True)
    # Brackets within texts count too; the event itself is one level.
    yield line.str.count_matches(r"[\[{]") > limits.max_json_depth + 1


def _text_checks(rows: pl.DataFrame) -> Iterator[pl.Expr]:
    for name in ("source", "action"):
        yield pl.col(name).is_null()
    for name in _NON_EMPTY:
        yield pl.col(name).eq("").fill_null(value=False)
    for name in _present(rows, TEXT_LIMITS):
        yield pl.col(name).str.len_chars().gt(TEXT_LIMITS[name]).fill_null(value=False)
    for name in _present(rows, _ENUMS):
        yield ~pl.col(name).is_in(_ENUMS[name]).fill_null(value=True)


def _json_checks(rows: pl.DataFrame) -> Iterator[pl.Expr]:
    for name in _present(rows, _JSON_SHAPES):
        yield ~pl.col(name).str.contains(_JSON_SHAPES[name]).fill_null(value=True)


def _identity_checks(rows: pl.DataFrame, latest: datetime) -> Iterator[pl.Expr]:
    event_id, time = pl.col("id"), pl.col("timestamp")
    time_ms = event_id.str.slice(0, 8) + event_id.str.slice(9, 4)
    is_minted = event_id.str.contains(_UUID7) & time_ms.str.to_integer(base=16, strict=False).eq(
        time.dt.epoch("ms")
    )
    yield ~is_minted.fill_null(value=False)
    yield time.dt.epoch("us") < 0
    yield time > pl.lit(latest).cast(pl.Datetime("us", "UTC"))
    for name in _present(rows, ["bulk_action_id"]):
        yield ~pl.col(name).str.contains(_UUID).fill_null(value=True)


def _present(rows: pl.DataFrame, names: Iterable[str]) -> list[str]:
    """Leave out columns without any value; there is nothing to check."""
    return [name for name in names if rows[name].null_count() < rows.height]


def _crowded(lines: pl.Series, limits: FrameLimits) -> pl.Series:
    """Lines that are long enough for too many keys and hold as many colons."""
    least_bytes = limits.max_json_keys * _SMALLEST_MEMBER_BYTES
    long = (lines.str.len_bytes() > least_bytes).arg_true()
    colons = lines.gather(long).str.count_matches(":", literal=True)
    return long.filter(colons > limits.max_json_keys)


def _with_large_exponent(column: pl.Series) -> pl.Series:
    quick, exact = _LARGE_EXPONENT
    candidates = column.str.contains(quick).arg_true()
    return candidates.filter(column.gather(candidates).str.contains(exact))
