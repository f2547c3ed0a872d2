"""The filters of a search over archived columns (pure).

Here: what a row group must have, by its statistics, and what its rows must have. Not here: which
files are opened (`search/cold.py`), the filters themselves (`search/query.py`).
Guarantee: the same rows match as in `search_events` of `db/queries/search.sql`. A row group is only
ruled out when none of its rows can match.

Filters that need small columns come first; the text columns and `metadata`, which are most of a
file, are read where something is left.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import polars as pl

from audit_platform.events.event import timestamp_us
from audit_platform.search.json_condition import JsonCondition, all_hold, json_conditions
from audit_platform.search.query import EventQuery, Position
from audit_platform.search.text_pattern import text_pattern

KEY: Final = ("timestamp", "tenant_id", "id")
"""Order of a page, newest first; texts and ids by their bytes."""
_RAREST_FIRST: Final = (
    "correlation_id",
    "entity_id",
    "user_id",
    "tenant_id",
    "entity_type",
    "status",
    "action",
    "source",
)
"""Exact filters by how few rows they leave, usually."""
_SEARCHED: Final = ("action", "description", "entity_label")
_JSON: Final = "metadata"


class Extremes(NamedTuple):
    """What statistics say about one column of a row group; None where they say nothing.

    `has_values` is False where every value is null.
    """

    least: Any = None
    greatest: Any = None
    has_values: bool = True


Statistics = Callable[[str], Extremes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Conditions on some columns, all of which must hold."""

    columns: tuple[str, ...]
    condition: pl.Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdFilter:
    """The filters of one query, with its range and its position.

    Attributes:
        stages: To be applied one after the other.
        json: Conditions on `metadata` that no expression can decide; applied last.
        texts: Column to exact text; for statistics.
        prefix: Beginning of `action`; for statistics.
    """

    since: datetime
    until: datetime
    stages: tuple[Stage, ...]
    json: tuple[JsonCondition, ...]
    texts: Mapping[str, str]
    prefix: str | None

    def may_match(self, statistics: Statistics) -> bool:
        """Whether a row group may hold a matching row."""
        times = statistics("timestamp")
        if times.least is not None and (times.greatest < self.since or times.least > self.until):
            return False
        if not all(_may_hold(statistics(name), text) for name, text in self.texts.items()):
            return False
        return self.prefix is None or _may_begin(statistics("action"), self.prefix)

    def holds_json(self, rows: pl.DataFrame) -> Iterator[bool]:
        """Decide the conditions on `metadata` row by row, as far as the caller asks."""
        for text in rows[_JSON]:
            yield all_hold(self.json, text)


def cold_filter(query: EventQuery, *, since: datetime, until: datetime) -> ColdFilter:
    """Make the filters of a query over a part of its time.

    Args:
        query: What to find; its own times are not looked at, its position is.
        since: Aware, inclusive.
        until: Aware, inclusive.
    """
    given = {name: getattr(query, name) for name in _RAREST_FIRST}
    # Plain texts: of a StrEnum, which a status may be, Polars would make an enumeration.
    texts = {name: str(text) for name, text in given.items() if text is not None}
    prefix = None
    if texts.get("action", "").endswith("*"):
        prefix = texts.pop("action").removesuffix("*")
    json = json_conditions(query.metadata)
    stages = _small(texts, prefix, since=since, until=until)
    if query.after is not None:
        stages.append(Stage(columns=KEY, condition=is_before(query.after)))
    if query.text is not None:
        stages.append(_searched(query.text))
    if json:
        stages.append(_hinted(json))
    return ColdFilter(
        since=since,
        until=until,
        stages=tuple(stages),
        json=json,
        texts=texts,
        prefix=prefix,
    )


def _small(
    texts: Mapping[str, str], prefix: str | None, *, since: datetime, until: datetime
) -> list[Stage]:
    """Time and the rarest text first: most row groups need no further column."""
    moment = pl.col("timestamp").to_physical()
    in_time = moment.is_between(timestamp_us(since), timestamp_us(until))
    ordered = sorted(texts, key=_RAREST_FIRST.index)
    conditions = {name: pl.col(name) == texts[name] for name in ordered}
    if prefix is not None:
        conditions["action"] = pl.col("action").str.starts_with(prefix)
    names = list(conditions)
    stages = [
        Stage(
            columns=("timestamp", *names[:1]),
            condition=pl.all_horizontal([in_time, *(conditions[name] for name in names[:1])]),
        )
    ]
    if names[1:]:
        others = pl.all_horizontal([conditions[name] for name in names[1:]])
        stages.append(Stage(columns=tuple(names[1:]), condition=others))
    return stages


def is_before(position: Position) -> pl.Expr:
    """Strictly older than a position, in the order of a page."""
    moment = pl.col("timestamp").to_physical()
    tenant, event_id = pl.col("tenant_id"), pl.col("id")
    at = timestamp_us(position.timestamp)
    has_older_id = (tenant == position.tenant_id) & (
        event_id < pl.lit(UUID(position.event_id).bytes)
    )
    has_less = (tenant < position.tenant_id) | has_older_id
    return (moment < at) | ((moment == at) & has_less)


def _searched(text: str) -> Stage:
    pattern = text_pattern(text)
    if pattern is None:
        return Stage(columns=(), condition=pl.lit(value=False))
    found = [pl.col(name).str.contains(pattern).fill_null(value=False) for name in _SEARCHED]
    return Stage(columns=_SEARCHED, condition=pl.any_horizontal(found))


def _hinted(conditions: tuple[JsonCondition, ...]) -> Stage:
    hints = [pattern for condition in conditions for pattern in condition.patterns()]
    matches = [pl.col(_JSON).str.contains(pattern) for pattern in hints]
    return Stage(columns=(_JSON,), condition=pl.all_horizontal([pl.lit(value=True), *matches]))


def _may_hold(extremes: Extremes, text: str) -> bool:
    """Whether some value may be this text; texts are ordered by their bytes, as code points are."""
    if not extremes.has_values:
        return False
    if extremes.least is None or extremes.greatest is None:
        return True
    return extremes.least <= text <= extremes.greatest


def _may_begin(extremes: Extremes, prefix: str) -> bool:
    """Whether some value may begin with a text."""
    if not extremes.has_values:
        return False
    if extremes.least is None or extremes.greatest is None:
        return True
    return extremes.greatest >= prefix and (
        extremes.least <= prefix or extremes.least.startswith(prefix)
    )
