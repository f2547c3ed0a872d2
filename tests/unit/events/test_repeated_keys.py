"""The cheap search for keys given twice finds every line that a precise reader finds."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.events.event import JSON_FIELDS
from audit_platform.events.repeated_keys import find_repeated_keys
from audit_platform.events.wire_event import WIRE_DECODER
from tests.effort import examples

# Few names, some of which JSON can spell in two ways, so that equal keys are likely.
_KEY = st.sampled_from(['"a"', '"a:"', '"\\u0061"', '"a\\u003a"', '"b"', '":"', '"é"', '"a\\":"'])
_SCALAR = st.sampled_from(
    ["1", "1.10", "1e400", "null", '"x"', '":"', '"\\u003a"', '"\\u003A"', '"a\\":"']
)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}:{value}" for key, value in members) + "}"


_VALUE = st.recursive(
    _SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(_KEY, inner), max_size=3).map(_object)
    ),
    max_leaves=6,
)
_LINE = st.lists(
    st.tuples(st.sampled_from(['"metadata"', '"context"', '"changes"']), _VALUE)
    | st.tuples(st.sampled_from(['"user_id"', '"action"']), st.sampled_from(['"x"', "null"])),
    max_size=4,
).map(_object)


def _has_repeated_key(line: str) -> bool:
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    json.loads(line, object_pairs_hook=look)
    return found


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(_LINE, min_size=1, max_size=8))
def test_every_line_with_a_repeated_key_is_found(lines: list[str]) -> None:
    raw = [line.encode() for line in lines]
    events = [WIRE_DECODER.decode(line) for line in raw]
    columns = [[bytes(getattr(event, name)) for event in events] for name in JSON_FIELDS]

    found = find_repeated_keys(raw, events, columns)

    repeated = [number for number, line in enumerate(lines) if _has_repeated_key(line)]
    assert set(repeated) <= set(found)


def test_plain_lines_are_not_found() -> None:
    line = b'{"action":"x","metadata":{"a":{"a":1},"b":[{"a":1.10},{"a":"http://x"}]}}'
    event = WIRE_DECODER.decode(line)
    columns = [[bytes(getattr(event, name))] * 1_000 for name in JSON_FIELDS]

    assert find_repeated_keys([line] * 1_000, [event] * 1_000, columns) == []
