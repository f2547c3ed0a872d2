"""Unusual but valid input is stored exactly: B06, B09, B20, B23 to B25 of the fault catalogue."""

import json

import pytest

from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration


def _with_metadata(json_text: bytes) -> bytes:
    return wire(event(metadata="@@")).replace(b'"@@"', json_text)


EXACT = {
    "B06 1e400": b'{"n":1e400}',
    "B06 decimals keep their digits": b'{"n":1.10,"m":0.1000000000000000055511151231257827}',
    "B09 integer beyond 2^53": b'{"n":9007199254740993,"m":123456789012345678901234567890}',
    "B23 CR, LF, ANSI, direction, zero width": json.dumps(
        {"a": "\r\n\x1b[31m\u202e\u200b\ufeff"}, ensure_ascii=False
    ).encode(),
    "B24 spreadsheet formulas": b'{"a":"=cmd|1","b":"+1","c":"-1","d":"@x"}',
    "B25 SQL and templates": b'{"a":"\'; drop table x; --","b":"%s {0} ${x} {{y}}"}',
    "spaces and order stay": b'{ "z" : 1 , "a" : [ 1 , 2 ] }',
    "escapes stay as written": b'{"a":"\\u00e9\\/\\n"}',
}


@pytest.mark.parametrize("name", EXACT)
def test_unusual_json_is_stored_byte_by_byte(shard: Shard, name: str) -> None:
    shard.add_batch([_with_metadata(EXACT[name]), wire(event())])

    summary = shard.drain()

    stored = {row[0].encode() for row in shard.rows("select metadata::text from audit.event")}
    assert summary.rows == 2
    assert EXACT[name] in stored


HOSTILE = (
    "\t", "\n", "\r", "\\", "\\.", "\\N", '"', "'", "\\\\", "\\t", "a\tb\nc\\d\re",
    "\u202e", "\x1b[2J", "=1+1", "\u2028", "😀", "\x7f", "%s%n", "\\x41", "{}", ",",
)  # fmt: skip


def test_hostile_texts_round_trip_in_every_text_column(shard: Shard) -> None:
    """B20, B19: 10,000 strings of everything that COPY's text format gives a meaning to."""
    texts = [
        "".join(
            HOSTILE[(no * 7 + step * (no % 11 + 1)) % len(HOSTILE)] for step in range(no % 5 + 1)
        )
        for no in range(2_500)
    ]
    columns = ("entity_label", "user_label", "description", "correlation_id")
    events = [event(**dict.fromkeys(columns, text)) for text in texts]
    for start in range(0, len(events), 500):
        shard.add_batch([wire(one) for one in events[start : start + 500]])

    shard.drain()

    stored = {
        str(row[0]): row[1:]
        for row in shard.rows(f"select id, {', '.join(columns)} from audit.event")
    }
    expected = {one["id"]: tuple(one[column] for column in columns) for one in events}
    assert stored == expected
