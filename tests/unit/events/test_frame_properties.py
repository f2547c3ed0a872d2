"""Framing as properties: any event of the contract survives, and both paths mean the same."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.events.event import (
    EVENT_FIELDS,
    TEXT_LIMITS,
    ActorType,
    AuditEvent,
    EventStatus,
    timestamp_us,
    to_wire,
)
from audit_platform.events.identity import mint
from audit_platform.events.normalise import Arrival, normalise
from audit_platform.events.reject import Unstorable
from audit_platform.events.wire_event import WireEvent
from audit_platform.integrity.leaf import leaf_of
from tests.unit.events.entries import LIMITS, NOW, NOW_MS, STREAM, batch, frame_of, single

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_OBJECT = st.dictionaries(_TEXT, _JSON, max_size=4)


def _compact(value: object) -> str:
    # A float beyond a double's range is not what this is about.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=True).replace(
        "Infinity", "1e400"
    )


def _limited(name: str, *, least: int = 0) -> st.SearchStrategy[str]:
    return st.text(
        st.characters(codec="utf-8", exclude_characters="\0"),
        min_size=least,
        max_size=TEXT_LIMITS[name],
    )


@st.composite
def _events(draw: st.DrawFn) -> AuditEvent:
    moment = draw(
        st.datetimes(
            min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
            max_value=datetime(2026, 3, 1, 12),  # noqa: DTZ001
            timezones=st.just(UTC),
        )
    )
    optional: dict[str, Any] = {
        name: draw(st.none() | _limited(name))
        for name in TEXT_LIMITS
        if name not in {"tenant_id", "source", "action"}
    }
    return AuditEvent(
        id=mint(timestamp_us(moment), draw(st.integers(0, 2**74 - 1))),
        timestamp=moment,
        tenant_id=draw(_limited("tenant_id", least=1)),
        source=draw(_limited("source", least=1)),
        action=draw(_limited("action", least=1)),
        status=draw(st.sampled_from(EventStatus)),
        actor_type=draw(st.sampled_from(ActorType)),
        changes=draw(st.none() | _OBJECT.map(_compact)),
        metadata=draw(_OBJECT.map(_compact)),
        context=draw(_OBJECT.map(_compact)),
        bulk_action_id=draw(st.none() | st.uuids().map(str)),
        bulk_item_no=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        severity=draw(st.none() | st.integers(0, 5)),
        sampled_rate=draw(st.floats(1e-30, 1e30, width=64)),
        **optional,
    )


@settings(deadline=None)
@given(st.lists(_events(), min_size=1, max_size=5, unique_by=lambda made: made.id))
def test_what_the_sdk_writes_comes_out_as_it_was(events: list[AuditEvent]) -> None:
    rows = (
        {row["id"]: row for row in frame_of(batch([*map(to_wire, events)])).rows.to_dicts()}
        if (events)
        else {}
    )

    assert len(rows) == len(events)
    for made in events:
        row = rows[made.id]
        for field in EVENT_FIELDS:
            expected = getattr(made, field.name)
            if field.name == "sampled_rate":
                expected = pl.Series([expected], dtype=pl.Float32)[0]
            assert row[field.name] == expected
        assert row["leaf_hash"] == leaf_of(row)


@settings(deadline=None)
@given(
    _events().map(to_wire),
    st.sampled_from(["", "swap", "cut", "double", "insert"]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=3),
)
def test_fast_and_precise_path_agree_on_any_line(
    line: bytes, mutation: str, place: int, inserted: bytes
) -> None:
    line = _mutated(line, mutation, place % len(line), inserted)
    arrival = Arrival(
        entry_ms=NOW_MS, delivery_id=f"{STREAM}:{NOW_MS}-0:1", now_us=timestamp_us(NOW)
    )

    result = frame_of(single(line))

    verdict = _verdict(line, arrival)
    if isinstance(verdict, Unstorable):
        (reject,) = result.rejects
        assert (reject.reason, reject.detail) == (verdict.reason, verdict.detail)
    else:
        (row,) = result.rows.to_dicts()
        for name in ("id", "action", "user_id", "entity_label", "severity"):
            assert row[name] == getattr(verdict, name)
        assert row["metadata"].encode() == bytes(verdict.metadata)


def _verdict(line: bytes, arrival: Arrival) -> WireEvent | Unstorable:
    try:
        return normalise(line, arrival, LIMITS)
    except Unstorable as verdict:
        return verdict


def _mutated(line: bytes, mutation: str, place: int, inserted: bytes) -> bytes:
    match mutation:
        case "swap":
            return line[:place] + inserted + line[place + 1 :]
        case "cut":
            return line[:place]
        case "double":
            return line[:-1] + b"," + line[1:]
        case "insert":
            return line[:place] + inserted + line[place:]
        case _:
            return line
