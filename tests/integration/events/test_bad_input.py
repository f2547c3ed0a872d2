"""Bad input B01 to B31, straight into the stream: alone, and as one line among good ones.

Not here: what the fault catalogue asks of the HTTP gateway (B17, B26, B30), of exports (B24's
prefix) and of reports of producers (B32: `test_producer_ledger.py`).
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from audit_platform.events.event import format_timestamp
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

GOOD_BESIDE = 50


def _with_metadata(json_text: bytes) -> bytes:
    return wire(event(metadata="@@")).replace(b'"@@"', json_text)


def _with(name: str, json_text: bytes) -> bytes:
    return wire(event() | {name: "@@"}).replace(b'"@@"', json_text)


def _with_time(text: str) -> bytes:
    return wire(event() | {"timestamp": text})


class Bad(NamedTuple):
    """One input that must become a dead letter, with the reason it must get."""

    make: Callable[[], bytes]
    reason: str


BAD = {
    "B01 NUL byte": Bad(
        lambda: wire(event(action="a")).replace(b'"a"', b'"a\0b"'), "nul_character"
    ),
    "B01 NUL escape in text": Bad(lambda: _with("action", b'"a\\u0000b"'), "nul_character"),
    "B02 invalid UTF-8": Bad(lambda: _with("description", b'"\xff\xfe"'), "invalid_utf8"),
    "B02 overlong UTF-8": Bad(lambda: _with("description", b'"\xc0\xaf"'), "invalid_utf8"),
    "B03 NUL escape in JSON": Bad(lambda: _with_metadata(b'{"a":"\\u0000"}'), "nul_character"),
    "B03 NUL escape in a key": Bad(lambda: _with_metadata(b'{"\\u0000":1}'), "nul_character"),
    "B04 lone surrogate in JSON": Bad(lambda: _with_metadata(b'{"a":"\\ud800"}'), "lone_surrogate"),
    "B04 lone surrogate in text": Bad(lambda: _with("description", b'"\\udfff"'), "lone_surrogate"),
    "B05 integer beyond smallint": Bad(lambda: _with("severity", b"99999999999"), "invalid_value"),
    "B05 integer beyond bigint": Bad(
        lambda: _with("bulk_item_no", b"99999999999999999999"), "invalid_value"
    ),
    "B07 1e200000": Bad(lambda: _with_metadata(b'{"n":1e200000}'), "number_out_of_range"),
    "B08 NaN": Bad(lambda: _with_metadata(b'{"n":NaN}'), "invalid_json"),
    "B08 Infinity": Bad(lambda: _with_metadata(b'{"n":-Infinity}'), "invalid_json"),
    "B10 year 999999": Bad(lambda: _with_time("999999-01-01T00:00:00Z"), "timestamp_out_of_range"),
    "B10 year 0": Bad(lambda: _with_time("0000-01-01T00:00:00Z"), "timestamp_out_of_range"),
    "B10 before 1970": Bad(lambda: _with_time("1969-12-31T23:59:59Z"), "timestamp_out_of_range"),
    "B11 six minutes ahead": Bad(
        lambda: wire(event(timestamp=datetime.now(UTC) + timedelta(minutes=6))),
        "timestamp_in_future",
    ),
    "B12 not version 7": Bad(lambda: wire(event(id=str(uuid4()))), "id_time_mismatch"),
    "B12 no uuid": Bad(lambda: wire(event(id="42")), "invalid_value"),
    "B12 another time": Bad(
        lambda: _with_time(format_timestamp(datetime.now(UTC) - timedelta(seconds=1))),
        "id_time_mismatch",
    ),
    "B15 nesting 10,000": Bad(
        lambda: _with_metadata(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "json_too_deep"
    ),
    "B15 nesting 33": Bad(
        lambda: _with_metadata(b'{"a":' * 33 + b"1" + b"}" * 33), "json_too_deep"
    ),
    "B16 string of 100 KB": Bad(
        lambda: _with_metadata(b'{"a":"' + b"x" * 100_000 + b'"}'), "too_large"
    ),
    "B16 too many keys": Bad(
        lambda: _with_metadata(json.dumps({f"k{no}": no for no in range(300)}).encode()),
        "too_many_keys",
    ),
    "B18 duplicate key in JSON": Bad(lambda: _with_metadata(b'{"a":1,"a":2}'), "duplicate_key"),
    "B18 duplicate key of the event": Bad(
        lambda: wire(event()).replace(b'{"id"', b'{"action":"x","id"'), "duplicate_key"
    ),
    "B19 a line of backslash dot": Bad(lambda: b"\\.", "invalid_json"),
    "B22 6,000 bytes in an indexed column": Bad(
        lambda: wire(event(user_id="x" * 6_000)), "too_long"
    ),
    "B22 6,000 incompressible bytes": Bad(
        lambda: wire(event(entity_id="".join(uuid4().hex for _ in range(188)))), "too_long"
    ),
    "B27 an array": Bad(lambda: b'["%d"]' % uuid4().int, "invalid_value"),
    "B27 a string": Bad(lambda: b'"%d"' % uuid4().int, "invalid_value"),
    "B27 no action": Bad(lambda: wire(event(action=None)), "missing_field"),
    "B27 a cut line": Bad(lambda: wire(event())[:-7], "invalid_json"),
    "B29 unknown schema version": Bad(lambda: wire(event(schema_version=99)), "unknown_version"),
    "B31 a number that breaks a vectorised decoder": Bad(
        lambda: _with("sampled_rate", b"1e400"), "invalid_value"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_event_becomes_a_dead_letter_and_its_neighbours_are_stored(
    shard: Shard, name: str
) -> None:
    alone, beside = BAD[name].make(), BAD[name].make()
    good = [event() for _ in range(GOOD_BESIDE)]
    lines = [wire(one) for one in good]
    lines.insert(GOOD_BESIDE // 2, beside)
    first = shard.add_event(alone)
    second = shard.add_batch(lines)

    summary = shard.drain()

    letters = shard.letters()
    # Equal bytes with an equal reason are kept once.
    expected = [(first, 1, alone), (second, GOOD_BESIDE // 2 + 1, beside)]
    expected = expected[: len({alone, beside})]
    assert [(one.entry_id, one.line_no, one.raw) for one in letters] == expected
    assert summary.dead_letters == 2
    assert {one.reason for one in letters} == {BAD[name].reason}
    assert shard.stored_ids() == sorted(one["id"] for one in good)
    assert shard.ledger()["n_bad"] == 2
    assert shard.waiting() == (0, 0)


def test_an_event_older_than_the_open_window_is_late(shard: Shard) -> None:
    """B11, the other direction."""
    old = event(timestamp=datetime.now(UTC) - timedelta(days=200))
    shard.add_event(wire(old))

    shard.drain()

    assert shard.late() == {old["id"]: "no_partition"}
    assert shard.letters() == []


def test_an_id_twice_with_the_same_content_is_one_row(shard: Shard) -> None:
    """B13, inside one entry, over entries of one batch, and over runs."""
    twin = event()
    shard.add_batch([wire(twin), wire(twin)])
    shard.add_event(wire(twin))
    shard.drain()
    shard.add_event(wire(twin))

    shard.drain()

    assert shard.stored_ids() == [twin["id"]]
    assert shard.ledger() == {"n_read": 4, "n_new": 1, "n_dup": 3, "n_late": 0, "n_bad": 0}


@pytest.mark.parametrize("is_same_batch", [True, False])
def test_an_id_twice_with_another_content_is_a_collision(shard: Shard, is_same_batch: bool) -> None:
    """B14: the first stays, the second is kept as a dead letter."""
    first = event()
    forged = wire(first | {"action": "user.delete"})
    shard.add_event(wire(first))
    if not is_same_batch:
        shard.drain()
    shard.add_event(forged)

    shard.drain()

    assert [(one.reason, one.raw) for one in shard.letters()] == [("id_collision", forged)]
    assert shard.rows("select action from audit.event") == [(first["action"],)]


def test_an_id_at_another_microsecond_of_its_millisecond_is_a_collision_in_its_batch(
    shard: Shard,
) -> None:
    moment = datetime.now(UTC).replace(microsecond=500_100)
    first = event(timestamp=moment)
    second = first | {"timestamp": format_timestamp(moment.replace(microsecond=500_900))}
    shard.add_batch([wire(first), wire(second)])

    shard.drain()

    assert [one.reason for one in shard.letters()] == ["id_collision"]
    assert len(shard.stored_ids()) == 1


ENTRIES: dict[str, dict[str, Any]] = {
    "B27 no known field": {"something": "else"},
    "B27 empty event": {"event": b""},
    "B27 empty batch": {"v": 1, "n": 0, "events": b""},
    "B27 a number that is none": {"v": 1, "n": "many", "events": b"{}"},
    "B29 unknown entry version": {"v": 2, "n": 1, "events": b"{}"},
    "B29 a version of hostile bytes": {"v": b"\x00\xff\x1b", "n": 1, "events": b"{}"},
    "a stamp at the end of its range": {
        "v": 2,
        "n": 1_000,
        "events": b"",
        "p": 2**31 - 1,
        "e": 2**63 - 1,
        "s": 2**63 - 1,
    },
    "a stamp beyond its range": {"v": 1, "n": 1, "events": b"{}", "p": 2**31, "e": -1, "s": "x"},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_without_events_becomes_a_dead_letter_and_leaves_the_stream(
    shard: Shard, name: str
) -> None:
    good = event()
    bad = shard.add(ENTRIES[name])
    shard.add_event(wire(good))

    summary = shard.drain()

    assert shard.stored_ids() == [good["id"]]
    assert summary.dead_letters == len(shard.letters()) >= 1
    assert {one.entry_id for one in shard.letters()} == {bad}
    assert shard.waiting() == (0, 0)


@pytest.mark.parametrize("declared", [1, 3, 1_000_000_000_000])
def test_a_wrong_count_keeps_the_good_lines_and_the_entry(shard: Shard, declared: int) -> None:
    """B27, wrong `n`: one more read, which is the entry itself as a dead letter."""
    good = [event(), event()]
    shard.add_batch([wire(one) for one in good], n=declared)

    summary = shard.drain()

    assert shard.stored_ids() == sorted(one["id"] for one in good)
    assert summary.dead_by_reason == {"envelope_mismatch": 1}
    assert shard.ledger()["n_read"] == 3


def test_one_bad_event_in_ten_thousand_leaves_the_others_alone(shard: Shard) -> None:
    events = [event() for _ in range(9_999)]
    poison = _with_metadata(b'{"n":1e200000}')
    lines = [wire(one) for one in events]
    lines.insert(7_777, poison)
    for start in range(0, len(lines), 1_000):
        shard.add_batch(lines[start : start + 1_000])

    summary = shard.drain()

    assert shard.stored_ids() == sorted(one["id"] for one in events)
    assert [(one.raw, one.line_no) for one in shard.letters()] == [(poison, 778)]
    assert summary.dead_by_reason == {"number_out_of_range": 1}
