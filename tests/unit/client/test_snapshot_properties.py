"""Any JSON comes back equal, any arguments give an event or a refusal that names them."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.client.snapshot import Snapshots
from audit_platform.errors import InvalidEvent
from audit_platform.privacy.redact import Redactor

SNAPSHOTS = Snapshots(
    tenant_id="acme",
    source="user",
    context={"host": "web-1"},
    redactor=Redactor(),
    tail74=lambda: random.getrandbits(74),
    max_event_bytes=65_536,
)

# No word of a secret key name fits into these.
_KEYS = st.text(st.sampled_from('0123456789 ü,;\\"/'), max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**11), 10**11)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=7),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(_KEYS, JSON, max_size=4))
@settings(max_examples=300)
def test_any_json_comes_back_equal(metadata: dict[str, Any]) -> None:
    event = json.loads(SNAPSHOTS.snapshot("a", {"metadata": metadata}, None).payload)

    assert json.dumps(event.get("metadata")) == json.dumps(metadata)


HOSTILE: st.SearchStrategy[object] = (
    st.none()
    | st.text()
    | st.binary()
    | st.floats()
    | st.datetimes()
    | st.uuids()
    | st.builds(object)
    | st.integers()
    | st.lists(st.text())
    | st.dictionaries(st.integers() | st.text(), st.floats())
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "entity",
                "user_id",
                "status",
                "changes",
                "metadata",
                "context",
                "timestamp",
                "id",
                "severity",
                "external_id",
            ]
        ),
        HOSTILE,
    ),
    HOSTILE,
)
@settings(max_examples=300)
def test_any_arguments_give_an_event_or_an_invalid_event(
    arguments: Mapping[str, object], action: object
) -> None:
    try:
        payload = SNAPSHOTS.snapshot(action, arguments, None).payload
    except InvalidEvent:
        return

    assert json.loads(payload, parse_constant=_refuse)["action"] == action
    assert b"\n" not in payload


_refuse: Callable[[str], object] = pytest.fail
