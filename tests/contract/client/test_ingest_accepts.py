"""Whatever the SDK accepts, the ingest job accepts: no event of ours becomes a dead letter."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.client.snapshot import Snapshots
from audit_platform.errors import InvalidEvent
from audit_platform.events.frame import FrameLimits, to_frame
from audit_platform.events.stream_entry import StreamEntry
from audit_platform.privacy.redact import Redactor
from audit_platform.settings import Settings

pytestmark = pytest.mark.contract

DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
LIMITS = FrameLimits(
    max_event_bytes=DEFAULTS["max_event_bytes"],
    max_json_depth=DEFAULTS["max_json_depth"],
    max_json_keys=DEFAULTS["max_json_keys"],
    future_tolerance_s=DEFAULTS["future_tolerance_s"],
)
SNAPSHOTS = Snapshots(
    tenant_id="acme",
    source="user",
    context={"host": "web-1"},
    redactor=Redactor(),
    tail74=lambda: random.getrandbits(74),
    max_event_bytes=DEFAULTS["max_event_bytes"],
)
# Surrogates and NUL included: refusing them is the SDK's part.
TEXT = st.text(st.characters(), max_size=12)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("\\u0000"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=4)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "entity": st.tuples(TEXT, TEXT | st.integers()),
        "entity_label": TEXT,
        "user_id": TEXT | st.integers() | st.uuids(),
        "user_label": TEXT,
        "impersonator_id": TEXT,
        "actor_type": st.sampled_from(["user", "admin", "api_key", "robot"]),
        "status": st.sampled_from(["success", "denied", "great"]),
        "description": TEXT,
        "changes": OBJECT,
        "metadata": OBJECT,
        "context": OBJECT,
        "tenant_id": TEXT,
        "source": TEXT,
        "timestamp": st.integers(0, 1_767_225_600).map(lambda s: datetime.fromtimestamp(s, UTC)),
        "external_id": TEXT,
        "severity": st.integers(-1, 6),
        "correlation_id": TEXT,
        "trace_id": TEXT,
    },
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def rejects_of(payloads: list[bytes]) -> list[tuple[str, str]]:
    entries = [
        StreamEntry(entry_id=f"1795374459123-{number}", fields={b"event": payload})
        for number, payload in enumerate(payloads)
    ]
    result = to_frame(entries, stream="audit:{0}:events", now=datetime.now(UTC), limits=LIMITS)
    assert result.n_read == len(payloads)
    return [(reject.reason, reject.detail) for reject in result.rejects]


@given(TEXT, ARGUMENTS)
@settings(max_examples=300, deadline=None)
def test_no_accepted_event_is_rejected_later(action: str, arguments: dict[str, Any]) -> None:
    try:
        payload = SNAPSHOTS.snapshot(action, arguments, None).payload
    except InvalidEvent:
        return

    assert rejects_of([payload]) == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"deepest": nested(31)},
        {str(number): number for number in range(255)},
        {"blob": "x" * 65_000},
        {"big": 2**200, "small": 5e-324, "large": 1.7e308, "exact": -0.0},
        {"text": "line\nfeed \t\r \\. \\N \u2028 \u202e =cmd"},
    ],
    ids=["depth", "keys", "size", "numbers", "text"],
)
def test_event_at_the_limit_is_stored(metadata: dict[str, Any]) -> None:
    payload = SNAPSHOTS.snapshot("a", {"metadata": metadata}, None).payload

    assert rejects_of([payload]) == []
    assert json.loads(payload)["metadata"] == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"deepest": nested(32)},
        {str(number): number for number in range(256)},
        {"blob": "x" * 65_500},
    ],
    ids=["depth", "keys", "size"],
)
def test_event_beyond_the_limit_is_refused_in_the_call(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        SNAPSHOTS.snapshot("a", {"metadata": metadata}, None)
