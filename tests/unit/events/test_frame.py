"""Framing: both entry formats, stamps, times of receipt, counts, and one meaning on both paths."""

import json
from datetime import timedelta
from typing import Any

import pytest

from audit_platform.events.event import (
    EVENT_FIELDS,
    timestamp_us,
)
from audit_platform.events.frame import EVENT_SCHEMA, RejectReason, SeqRange, to_frame
from audit_platform.events.identity import uuid7_ms
from audit_platform.events.stream_entry import StreamEntry
from audit_platform.events.wire_event import WireEvent, columns_of
from tests.unit.events.entries import (
    LIMITS,
    NOW,
    NOW_MS,
    batch,
    event,
    frame_of,
    row_of,
    single,
    wire,
)


def test_an_event_alone_and_in_a_batch_is_one_row() -> None:
    line = wire()

    alone, among = frame_of(single(line)), frame_of(batch([line]))

    columns = [name for name in EVENT_SCHEMA if not name.startswith("producer_")]
    assert alone.rows.select(columns).equals(among.rows.select(columns))


def test_nothing_read_gives_an_empty_frame() -> None:
    result = frame_of()

    assert (result.rows.height, result.n_read, result.first_entry) == (0, 0, None)


def test_first_and_last_entry_are_those_of_the_call() -> None:
    result = frame_of(single(wire(), number=1), single(b"{", number=2), single(wire(), number=3))

    assert (result.first_entry, result.last_entry) == (f"{NOW_MS}-1", f"{NOW_MS}-3")


def test_stamp_numbers_the_lines_and_their_range_counts_rejected_ones() -> None:
    lines = [wire(entity_id="1"), b"broken", wire(entity_id="3")]

    result = frame_of(batch(lines, p=b"7", e=b"9223372036854775807", s=b"41"))

    stamped = result.rows.sort("entity_id").select("producer_id", "producer_epoch", "producer_seq")
    assert stamped.rows() == [(7, 2**63 - 1, 41), (7, 2**63 - 1, 43)]
    assert result.ranges == (SeqRange(producer_id=7, epoch=2**63 - 1, first_seq=41, last_seq=43),)


def test_ranges_that_continue_each_other_are_joined() -> None:
    entries = [
        batch([wire(), wire()], number=1, p=b"1", e=b"1", s=b"1"),
        batch([wire()], number=2, p=b"1", e=b"1", s=b"3"),
        batch([wire()], number=3, p=b"1", e=b"1", s=b"5"),
        batch([wire()], number=4, p=b"2", e=b"1", s=b"6"),
    ]

    ranges = frame_of(*entries).ranges

    assert [(one.producer_id, one.first_seq, one.last_seq) for one in ranges] == [
        (1, 1, 3),
        (1, 5, 5),
        (2, 6, 6),
    ]


def test_an_event_without_stamp_has_none() -> None:
    row = row_of(wire())

    assert (row["producer_id"], row["producer_epoch"], row["producer_seq"]) == (None, None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"p": b"x", "e": b"1", "s": b"1"},
        {"p": b"1", "e": b"1"},
        {"p": b"2147483648", "e": b"1", "s": b"1"},
        {"p": b"1", "e": b"1", "s": b"0"},
        {"p": b"1", "e": b"9223372036854775808", "s": b"1"},
        {"p": b"1", "e": b"1", "s": b"9223372036854775807"},
        {"p": b"-1", "e": b"1", "s": b"1"},
    ],
)
def test_a_broken_stamp_keeps_the_lines_without_it(fields: dict[str, Any]) -> None:
    result = frame_of(batch([wire()], **fields))

    assert [reject.reason for reject in result.rejects] == [RejectReason.ENVELOPE_MISMATCH]
    assert (result.rows["producer_id"][0], result.ranges) == (None, ())


@pytest.mark.parametrize(
    ("received", "expected_ms"),
    [
        (b"%d" % (NOW_MS - 5), NOW_MS - 5),
        (b"%d" % (NOW_MS + 10**9), NOW_MS),
        (b"0", NOW_MS),
        (b"soon", NOW_MS),
        (None, NOW_MS),
    ],
)
def test_received_at_is_what_the_queue_says_or_the_time_of_the_entry(
    received: bytes | None, expected_ms: int
) -> None:
    result = frame_of(batch([wire()], t=received))

    assert timestamp_us(result.rows["received_at"][0]) == expected_ms * 1_000


def test_an_entry_id_of_another_age_does_not_break_received_at() -> None:
    entry = StreamEntry(entry_id="18446744073709551615-0", fields={b"event": wire()})

    received_at = frame_of(entry).rows["received_at"][0]

    assert received_at == NOW.replace(microsecond=123_000) + timedelta(minutes=5)


def test_an_event_without_id_gets_the_same_id_at_each_delivery() -> None:
    line = wire(id=None)

    first, again = frame_of(single(line)).rows["id"][0], frame_of(single(line)).rows["id"][0]
    elsewhere = frame_of(single(line, number=1)).rows["id"][0]

    assert first == again != elsewhere
    assert uuid7_ms(first) == NOW_MS


def test_events_without_id_in_one_entry_get_different_ids() -> None:
    line = wire(id=None)

    assert frame_of(batch([line, line])).rows["id"].n_unique() == 2


@pytest.mark.parametrize("external_id", ["e-1", 17])
def test_an_external_id_decides_the_id_wherever_the_event_arrives(external_id: object) -> None:
    line = wire(id=None, context={"external_id": external_id})

    result = frame_of(single(line), single(line, number=1))

    assert (result.rows.height, result.n_dup) == (1, 1)


def test_an_event_without_id_and_time_takes_the_time_of_its_entry() -> None:
    made = event(id=None)
    del made["timestamp"]

    row = frame_of(single(json.dumps(made).encode())).rows.row(0, named=True)

    assert timestamp_us(row["timestamp"]) == NOW_MS * 1_000
    assert uuid7_ms(row["id"]) == NOW_MS


def test_defaults_stand_where_nothing_was_sent() -> None:
    line = b'{"source":"api","action":"x"}'

    row = frame_of(single(line)).rows.row(0, named=True)

    assert {name: row[name] for name in ("tenant_id", "status", "actor_type")} == {
        "tenant_id": "default",
        "status": "success",
        "actor_type": "user",
    }
    assert (row["metadata"], row["context"], row["changes"]) == ("{}", "{}", None)
    assert (row["sampled_rate"], row["schema_version"], row["severity"]) == (1.0, 1, None)


def test_null_means_the_same_as_nothing_sent() -> None:
    made = event()
    nulls = {field.name: None for field in EVENT_FIELDS if field.name not in made}

    with_nulls, without = json.dumps({**made, **nulls}).encode(), json.dumps(made).encode()

    assert row_of(with_nulls) == row_of(without)


def test_json_columns_keep_their_bytes() -> None:
    text = '{ "b": 1.10, "a" : [1e400,\t12345678901234567890], "\\u00e9": "\\/"}'
    line = wire(metadata=None, changes=None)[:-1] + b',"metadata":' + text.encode() + b"}"

    assert row_of(line)["metadata"] == text


def test_an_event_over_several_lines_does_not_shift_the_others() -> None:
    pretty = json.dumps(event(entity_id="pretty"), indent=1).encode()

    result = frame_of(single(wire()), single(pretty, number=1), single(wire(), number=2))

    assert result.rows.height == 3
    assert b"\n" in result.lines.raw[1]


def test_two_events_on_one_line_are_rejected_together() -> None:
    result = frame_of(batch([wire(), wire() + wire(), wire()]))

    assert (result.rows.height, len(result.rejects)) == (2, 1)
    assert result.rejects[0].reason == RejectReason.INVALID_JSON


def test_carriage_returns_and_blank_lines_between_events_are_no_events() -> None:
    entry = batch([], events=wire() + b"\r\n\r\n" + wire() + b"\n", n=b"2")

    assert frame_of(entry).n_read == 2


def test_rows_are_sorted_by_their_key() -> None:
    lines = [
        wire(tenant_id=tenant, timestamp=NOW - timedelta(seconds=age))
        for tenant in ("b", "a")
        for age in (1, 3, 2)
    ]

    rows = frame_of(batch(lines)).rows

    assert rows["tenant_id"].to_list() == ["a"] * 3 + ["b"] * 3
    assert rows["timestamp"].head(3).is_sorted()


def test_a_row_finds_the_bytes_it_came_from() -> None:
    lines = [wire(tenant_id="b"), b"{", wire(tenant_id="a")]

    reject = frame_of(batch(lines)).reject_row(
        0, reason=RejectReason.REFUSED_BY_DATABASE, detail="why; what to do"
    )

    assert (reject.raw, reject.line_no, reject.entry_id) == (lines[2], 3, f"{NOW_MS}-0")


def test_the_stream_is_part_of_a_made_id() -> None:
    line = wire(id=None)

    other = to_frame([single(line)], stream="other", now=NOW, limits=LIMITS)

    assert other.rows["id"][0] != frame_of(single(line)).rows["id"][0]


def test_columns_and_struct_name_the_fields_of_the_contract() -> None:
    names = [field.name for field in EVENT_FIELDS]

    assert list(columns_of([])) == list(WireEvent.__struct_fields__) == names
    assert list(EVENT_SCHEMA)[: len(names)] == names
