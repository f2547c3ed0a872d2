"""Bad input by the ids of the fault catalogue, as far as the stream can carry it.

B26 and B30 are about the HTTP edge alone. Each bad line is framed alone and among good ones.

Length: one test per row of the catalogue, found by its id in one place.
"""

import gzip
import json
import secrets
import time
from datetime import UTC, datetime, timedelta

import pytest

from audit_platform.events.copy_text import copy_text
from audit_platform.events.event import format_timestamp
from audit_platform.events.frame import EVENT_SCHEMA, RejectReason
from audit_platform.events.identity import uuid7
from audit_platform.events.lines import unpack_fields
from audit_platform.events.stream_entry import StreamEntry
from tests.unit.events.entries import (
    NOW,
    NOW_MS,
    batch,
    event,
    frame_of,
    reject_of,
    row_of,
    single,
    wire,
    wire_with,
)


def _metadata(text: bytes) -> bytes:
    return wire_with(b'"metadata":' + text, metadata=None)


@pytest.mark.parametrize(
    "line",
    [
        wire(description="a\0b"),
        wire(description="a#b").replace(b"#", b"\0"),
        wire(user_id="\0"),
        wire(entity_label="é\0"),
    ],
)
def test_b01_nul_in_text_is_rejected(line: bytes) -> None:
    assert reject_of(line).reason == RejectReason.NUL_CHARACTER


@pytest.mark.parametrize(
    "line",
    [
        wire(description="#").replace(b"#", b"\xff\xfe"),
        wire(metadata={"a": "#"}).replace(b"#", b"\xff"),
        wire(metadata={"#": 1}).replace(b"#", b"\xc3"),
        wire(description="#").replace(b"#", b"\xed\xa0\x80"),
        wire(metadata={"a": "#"}).replace(b"#", b"\xc0\x80"),
    ],
)
def test_b02_invalid_utf8_is_rejected(line: bytes) -> None:
    reject = reject_of(line)

    assert reject.reason == RejectReason.INVALID_UTF8
    assert "encode text as UTF-8" in reject.detail


@pytest.mark.parametrize(
    "text", [b'{"a":"\\u0000"}', b'{"a":["x","\\\\\\u0000"]}', b'{"\\u0000":1}']
)
def test_b03_escaped_nul_in_json_is_rejected(text: bytes) -> None:
    assert reject_of(_metadata(text)).reason == RejectReason.NUL_CHARACTER


def test_b03_an_escaped_backslash_before_u0000_is_stored() -> None:
    assert row_of(_metadata(b'{"a":"\\\\u0000"}'))["metadata"] == '{"a":"\\\\u0000"}'


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"\\ud83d"}',
        b'{"a":"x\\udc00y and more text behind"}',
        b'{"a":"\\ud83d\\u0041 and more text behind"}',
        b'{"\\uD800":1,"b":"and more text behind"}',
    ],
)
def test_b04_lone_surrogate_is_rejected(text: bytes) -> None:
    assert reject_of(_metadata(text)).reason == RejectReason.LONE_SURROGATE
    assert reject_of(wire_with(b'"description":' + text[5:-1])).reason in {
        RejectReason.LONE_SURROGATE,
        RejectReason.INVALID_JSON,
    }


def test_b04_a_surrogate_pair_is_stored_as_sent() -> None:
    row = row_of(wire_with(b'"description":"\\ud83d\\ude00","trace_id":"\\ud83d\\ude00"'))

    assert row["description"] == row["trace_id"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("member", "field"),
    [
        (b'"severity":99999999999', "severity"),
        (b'"severity":6', "severity"),
        (b'"severity":-1', "severity"),
        (b'"severity":2.0', "severity"),
        (b'"bulk_item_no":9223372036854775808', "bulk_item_no"),
        (b'"bulk_item_no":' + b"9" * 5_000, "bulk_item_no"),
        (b'"bulk_item_no":"5"', "bulk_item_no"),
        (b'"sampled_rate":0', "sampled_rate"),
        (b'"sampled_rate":1e400', "sampled_rate"),
        (b'"sampled_rate":1e-400', "sampled_rate"),
        (b'"sampled_rate":true', "sampled_rate"),
    ],
)
def test_b05_number_that_its_column_cannot_hold_is_rejected(member: bytes, field: str) -> None:
    reject = reject_of(wire_with(member))

    assert reject.reason == RejectReason.INVALID_VALUE
    assert reject.detail.startswith(f"{field}: ")


def test_b05_the_ends_of_each_range_are_stored() -> None:
    row = row_of(wire(severity=5, bulk_item_no=2**63 - 1, sampled_rate=1e30))

    assert (row["severity"], row["bulk_item_no"]) == (5, 2**63 - 1)


@pytest.mark.parametrize("number", ["1e400", "-1E+400", "1e131071", "1.10", "-0", "1e-16383"])
def test_b06_large_and_fine_numbers_are_stored_exactly(number: str) -> None:
    text = f'{{"a":{number},"b":[{number}]}}'

    row = row_of(wire_with(b'"metadata":' + text.encode(), metadata=None))

    assert row["metadata"] == text


@pytest.mark.parametrize(
    "number",
    [
        "1e200000",
        "1e131072",
        "12e131071",
        "0.1e131073",
        "1e-16384",
        "1.5e-16383",
        "0." + "1" * 16_384,
        "1e99999999999999999999",
        "0e-16384",
        "0e2147483647",
    ],
)
def test_b07_number_beyond_numeric_is_rejected(number: str) -> None:
    reject = reject_of(_metadata(b'{"a":[1,%b]}' % number.encode()))

    assert reject.reason == RejectReason.NUMBER_OUT_OF_RANGE


@pytest.mark.parametrize(
    "number", ["0.1e131072", "0." + "1" * 16_383, "1" * 60_000, "0e131072", "1e0000000000000001"]
)
def test_b07_number_at_the_edge_of_numeric_is_stored(number: str) -> None:
    assert row_of(_metadata(b'{"a":%b}' % number.encode()))["metadata"] == f'{{"a":{number}}}'


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"nan"])
def test_b08_nan_and_infinity_are_rejected(constant: bytes) -> None:
    assert reject_of(_metadata(b'{"a":%b}' % constant)).reason == RejectReason.INVALID_JSON
    assert reject_of(wire_with(b'"sampled_rate":' + constant)).reason == RejectReason.INVALID_JSON


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 2**64 + 1, 10**400])
def test_b09_whole_number_beyond_a_double_is_stored_exactly(number: int) -> None:
    assert json.loads(row_of(_metadata(b'{"a":%d}' % number))["metadata"]) == {"a": number}


@pytest.mark.parametrize(
    "timestamp",
    [
        "999999-01-01T00:00:00.000000Z",
        "+999999-01-01T00:00:00Z",
        "0000-01-01T00:00:00.000000Z",
        "-0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000000Z",
        "1969-12-31T23:59:59.999999Z",
        -1,
        10**18,
    ],
)
def test_b10_year_outside_of_1970_to_9999_is_rejected(timestamp: str | int) -> None:
    assert reject_of(wire(timestamp=timestamp)).reason == RejectReason.TIMESTAMP_OUT_OF_RANGE


@pytest.mark.parametrize("timestamp", ["2026-02-30T00:00:00.000000Z", "2026-01-01T24:00:00Z"])
def test_b10_a_day_that_does_not_exist_is_rejected(timestamp: str) -> None:
    assert reject_of(wire(timestamp=timestamp)).reason == RejectReason.INVALID_VALUE


def test_b11_more_than_five_minutes_ahead_is_rejected() -> None:
    ahead = NOW + timedelta(minutes=5, microseconds=1)

    assert reject_of(wire(timestamp=ahead)).reason == RejectReason.TIMESTAMP_IN_FUTURE
    assert reject_of(wire(timestamp=datetime(9999, 12, 31, 23, 59, tzinfo=UTC))).reason == (
        RejectReason.TIMESTAMP_IN_FUTURE
    )


@pytest.mark.parametrize("moment", [NOW + timedelta(minutes=5), datetime(1970, 1, 1, tzinfo=UTC)])
def test_b11_at_most_five_minutes_ahead_and_old_ones_are_rows(moment: datetime) -> None:
    assert row_of(wire(timestamp=moment))["timestamp"] == moment


@pytest.mark.parametrize(
    "event_id",
    [
        uuid7(NOW_MS + 1, 5),
        uuid7(NOW_MS - 1, 5),
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        uuid7(NOW_MS, 5)[:19] + "c" + uuid7(NOW_MS, 5)[20:],
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_b12_id_that_is_not_of_the_timestamp_is_rejected(event_id: str) -> None:
    reject = reject_of(wire(id=event_id))

    assert reject.reason == RejectReason.ID_TIME_MISMATCH
    assert "context.external_id" in reject.detail


@pytest.mark.parametrize("event_id", ["", "42", 42, "x" * 36, uuid7(NOW_MS, 5)[:-1], True])
def test_b12_id_that_is_no_uuid_is_rejected(event_id: object) -> None:
    assert reject_of(wire(id=event_id)).reason == RejectReason.INVALID_VALUE


def test_b13_same_event_twice_in_a_batch_counts_as_duplicate() -> None:
    line = wire()

    result = frame_of(batch([line, line]), batch([wire(), line], number=1))

    assert (result.rows.height, result.n_dup, result.rejects) == (2, 2, ())


def test_b14_same_id_with_another_payload_is_rejected() -> None:
    made = event()
    first, other = wire(**made), wire(**{**made, "user_id": "other"})

    result = frame_of(batch([first, other, first]))

    assert (result.rows.height, result.n_dup) == (1, 1)
    assert result.rows["user_id"][0] == made["user_id"]
    (reject,) = result.rejects
    assert (reject.reason, reject.raw, reject.line_no) == (RejectReason.ID_COLLISION, other, 2)


def test_b14_same_id_at_another_microsecond_is_rejected() -> None:
    made = event()
    moved = {**made, "timestamp": format_timestamp(NOW + timedelta(microseconds=1))}

    result = frame_of(batch([wire(**made), wire(**moved)]))

    assert [reject.reason for reject in result.rejects] == [RejectReason.ID_COLLISION]


def test_b14_same_id_of_another_tenant_is_another_event() -> None:
    made = event()

    result = frame_of(batch([wire(**made), wire(**{**made, "tenant_id": "other"})]))

    assert (result.rows.height, result.n_dup) == (2, 0)


@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [(b"[", b"]", 10_000), (b'{"a":', b"}", 10_000), (b"[", b"]", 32), (b"[", b"", 30_000)],
)
def test_b15_deep_nesting_is_rejected(opening: bytes, closing: bytes, levels: int) -> None:
    text = b'{"a":' + opening * levels + b"1" + closing * levels + b"}"

    assert reject_of(_metadata(text)).reason == RejectReason.JSON_TOO_DEEP


def test_b15_nesting_at_the_limit_is_stored() -> None:
    text = '{"a":' + "[" * 31 + "]" * 31 + "}"

    assert row_of(_metadata(text.encode()))["metadata"] == text


def test_b15_brackets_within_text_are_not_nesting() -> None:
    text = '{"a":"' + "[{" * 100 + '\\""}'

    assert row_of(_metadata(text.encode()))["metadata"] == text


@pytest.mark.parametrize("size", [1_000_000, 65_536])
def test_b16_large_event_is_rejected(size: int) -> None:
    assert reject_of(wire(metadata={"a": "x" * size})).reason == RejectReason.TOO_LARGE


def test_b16_event_of_exactly_the_limit_is_stored() -> None:
    made = event(metadata={"a": "#"})
    padding = 65_536 - len(wire(**made)) + 1

    line = wire(**{**made, "metadata": {"a": "#" * padding}})

    assert len(line) == 65_536
    assert row_of(line)["metadata"] == f'{{"a":"{"#" * padding}"}}'


@pytest.mark.parametrize("count", [257, 4_000])
def test_b16_too_many_keys_are_rejected(count: int) -> None:
    line = wire(
        changes=None, context=None, metadata={"a": {str(key): key for key in range(count - 1)}}
    )

    assert reject_of(line).reason == RejectReason.TOO_MANY_KEYS


def test_b16_a_hundred_thousand_keys_are_too_large() -> None:
    line = wire(metadata={str(key): 1 for key in range(100_000)})

    assert reject_of(line).reason == RejectReason.TOO_LARGE


def test_b16_as_many_keys_as_allowed_are_stored() -> None:
    metadata = {str(key): {"x": key} for key in range(128)}

    row = row_of(wire(changes=None, context=None, metadata=metadata))

    assert json.loads(row["metadata"]) == metadata


def test_b17_compressed_bytes_are_rejected_unread() -> None:
    result = frame_of(single(gzip.compress(wire())))

    assert [reject.reason for reject in result.rejects] == [RejectReason.INVALID_UTF8]


@pytest.mark.parametrize(
    "line",
    [
        wire_with(b'"action":"other"'),
        wire_with(b'"\\u0061ction":"other"'),
        wire_with(b'"metadata":{}'),
        _metadata(b'{"a":1,"a":1}'),
        _metadata(b'{"a":1,"b":{"c":[{"d":1,"e":2,"d":3}]}}'),
        _metadata(b'{"a":1, "\\u0061" : 2}'),
        _metadata(b'{"a:":1,"x":"\\u003a","a:":2}'),
        _metadata(b'{"a":1,"a":2,"b":"\\u003A"}'),
        wire_with(b'"changes":{"x":{"old":1,"old":2}}', changes=None),
        wire_with(b'"unknown":{"x":1,"x":2}'),
    ],
)
def test_b18_key_twice_in_an_object_is_rejected(line: bytes) -> None:
    reject = reject_of(line)

    assert reject.reason == RejectReason.DUPLICATE_KEY
    assert "send each key once" in reject.detail


def test_b18_equal_keys_in_different_objects_are_stored() -> None:
    text = '{"a":{"id":1},"b":{"id":1},"id":[{"id":1},{"id":2}]}'

    assert row_of(_metadata(text.encode()))["metadata"] == text


@pytest.mark.parametrize("text", ["\\.", "\\N", "\t", "\n", "\r", "\\", '"', "'", "\\t", "a\\\n"])
def test_b19_b20_text_that_copy_gives_a_meaning_is_stored_as_it_is(text: str) -> None:
    row = row_of(wire(action=text, description=text, metadata={"a": text}))

    assert row["action"] == row["description"] == text
    assert json.loads(row["metadata"]) == {"a": text}


def test_b20_ten_thousand_strings_come_out_as_they_went_in() -> None:
    alphabet = ["\t", "\n", "\\", '"', "'", "\\N", "\\.", "\r", ",", "é", "\N{GRINNING FACE}", "x"]
    texts = [
        "".join(secrets.choice(alphabet) for _ in range(secrets.randbelow(20)))
        for _ in range(10_000)
    ]
    lines = [wire(entity_id=str(number), description=text) for number, text in enumerate(texts)]

    result = frame_of(
        *(batch(lines[start : start + 500], number=start) for start in range(0, 10_000, 500))
    )

    stored = dict(result.rows.select("entity_id", "description").iter_rows())
    assert [stored[str(number)] for number in range(10_000)] == texts
    assert copy_text(result.rows, ["description"]).count(b"\n") == 10_000


def test_b21_a_missing_or_unknown_field_does_not_shift_a_column() -> None:
    row = row_of(wire_with(b'"unknown":1', entity_id=None))

    assert list(row)[:-1] == list(EVENT_SCHEMA)
    assert (row["entity_id"], row["user_id"]) == (None, "7")
    assert json.loads(row["metadata"]) == {"plan": "pro", "seats": 12, "unknown": 1}


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("tenant_id", 100),
        ("entity_type", 50),
        ("entity_id", 100),
        ("user_id", 100),
        ("action", 100),
        ("source", 64),
        ("description", 2000),
        ("trace_id", 32),
    ],
)
def test_b22_text_beyond_its_limit_is_rejected(field: str, limit: int) -> None:
    reject = reject_of(wire(**{field: "é" * (limit + 1)}))

    assert reject.reason == RejectReason.TOO_LONG
    assert reject.detail.startswith(f"{field}: has {limit + 1} characters")
    assert reject_of(wire(**{field: "x" * 6_000})).reason == RejectReason.TOO_LONG
    assert row_of(wire(**{field: "é" * limit}))[field] == "é" * limit


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb\x1b[31mred",
        "\u202etxt.exe\u200b\ufeff",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "'; drop table audit.event; --",
        "%s %(name)s {0} {{7*7}} ${jndi:ldap://x}",
    ],
)
def test_b23_b24_b25_hostile_text_is_stored_verbatim(text: str) -> None:
    row = row_of(wire(action=text, user_label=text, metadata={text: text}))

    assert row["action"] == row["user_label"] == text
    assert json.loads(row["metadata"]) == {text: text}


def test_b27_entry_without_a_known_field_is_rejected_whole() -> None:
    fields = {b"evnt": wire(), b"x": b"\xff\0,:"}

    result = frame_of(StreamEntry(entry_id="5-0", fields=fields), single(wire()))

    assert (result.n_read, result.rows.height) == (2, 1)
    (reject,) = result.rejects
    assert (reject.reason, reject.entry_id, reject.line_no) == (
        RejectReason.UNKNOWN_ENTRY,
        "5-0",
        0,
    )
    assert unpack_fields(reject.raw) == fields


@pytest.mark.parametrize("n", [b"3", b"1", b"0", b"", b"-2", b"two", None, b"9" * 30])
def test_b27_wrong_count_keeps_the_lines_and_rejects_the_envelope(n: bytes | None) -> None:
    lines = [wire(), wire()]

    result = frame_of(batch(lines, n=n, p=b"1", e=b"2", s=b"10"))

    assert (result.n_read, result.rows.height) == (3, 2)
    (reject,) = result.rejects
    assert (reject.reason, reject.line_no) == (RejectReason.ENVELOPE_MISMATCH, 0)
    assert unpack_fields(reject.raw)[b"events"] == b"\n".join(lines)
    assert (result.ranges[0].first_seq, result.ranges[0].last_seq) == (10, 11)


@pytest.mark.parametrize("raw", [b"", b" ", b"null", b"[]", b"[{}]", b'"text"', b"1", b"{}", b"{"])
def test_b27_event_without_content_is_rejected(raw: bytes) -> None:
    assert frame_of(single(raw)).rejects[0].raw == raw


@pytest.mark.parametrize("events", [b"", b"\n \n"])
def test_b27_batch_without_lines_is_rejected(events: bytes) -> None:
    result = frame_of(batch([], events=events))

    assert [reject.reason for reject in result.rejects] == [RejectReason.ENVELOPE_MISMATCH]


def test_b28_pending_entry_that_redis_lost_is_counted_apart() -> None:
    lost = StreamEntry(entry_id="9-0", fields={})

    result = frame_of(single(wire()), lost)

    assert (result.redis_lost, result.n_read, result.rows.height) == (1, 1, 1)
    assert result.last_entry == "9-0"


@pytest.mark.parametrize("version", [b"2", b"0", b"", b"one", None])
def test_b29_unknown_envelope_version_keeps_the_whole_entry(version: bytes | None) -> None:
    entry = batch([wire(), wire()], v=version, p=b"1", e=b"2", s=b"10")

    result = frame_of(entry)

    (reject,) = result.rejects
    assert (result.n_read, reject.reason) == (1, RejectReason.UNKNOWN_VERSION)
    assert unpack_fields(reject.raw) == entry.fields
    assert (result.ranges[0].first_seq, result.ranges[0].last_seq) == (10, 11)


def test_b29_a_count_no_entry_can_hold_records_no_range() -> None:
    entry = batch([wire()], v=b"2", n=b"1000000000", p=b"1", e=b"2", s=b"10")

    assert frame_of(entry).ranges == ()


@pytest.mark.parametrize("version", [2, 0, 10**30])
def test_b29_unknown_event_version_is_rejected_for_replay(version: int) -> None:
    expected = RejectReason.UNKNOWN_VERSION if version < 100 else RejectReason.INVALID_VALUE

    assert reject_of(wire(schema_version=version)).reason == expected


@pytest.mark.parametrize("number", [b"1e400", b"1e200000", b"9" * 5_000])
def test_b31_one_number_among_ten_thousand_lines_affects_its_line_only(number: bytes) -> None:
    lines = [wire(entity_id=str(count)) for count in range(9_999)]
    lines.insert(5_000, wire_with(b'"severity":' + number))
    started_s = time.perf_counter()

    result = frame_of(
        *(batch(lines[start : start + 1_000], number=start) for start in range(0, 10_000, 1_000))
    )

    assert (result.rows.height, len(result.rejects)) == (9_999, 1)
    assert result.rejects[0].raw == lines[5_000]
    assert time.perf_counter() - started_s < 10, "the other lines stay on the fast path"
