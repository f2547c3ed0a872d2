"""Arguments become the bytes of one event: as `to_wire` writes it, fixed, checked, redacted."""

import json
import random
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import pytest

from audit_platform.client.snapshot import Snapshots
from audit_platform.errors import InvalidEvent
from audit_platform.events import identity
from audit_platform.events.event import ActorType, AuditEvent, EventStatus, to_wire
from audit_platform.events.policy import Durability
from audit_platform.privacy.redact import Redactor

MOMENT = datetime(2026, 11, 22, 19, 7, 39, 123456, tzinfo=UTC)


@pytest.fixture
def snapshots() -> Snapshots:
    return make_snapshots()


def make_snapshots() -> Snapshots:
    return Snapshots(
        tenant_id="acme",
        source="user",
        context={"host": "web-1"},
        redactor=Redactor(),
        tail74=lambda: random.getrandbits(74),
        max_event_bytes=65_536,
    )


def taken(
    snapshots: Snapshots, action: object = "user.suspend", **arguments: object
) -> dict[str, Any]:
    return json.loads(snapshots.snapshot(action, arguments, None).payload)


def test_event_equals_what_to_wire_writes(snapshots: Snapshots) -> None:
    event_id = identity.mint(1795374459123456, 77)

    event = taken(
        snapshots,
        id=event_id,
        timestamp=MOMENT,
        entity=("user", 42),
        entity_label="Anna",
        user_id=7,
        user_label="Bob",
        impersonator_id="1",
        actor_type=ActorType.ADMIN,
        status="denied",
        description="no right",
        changes={"active": {"old": True, "new": False}},
        metadata={"a": 1},
        severity=3,
        correlation_id="c-1",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    )

    expected = AuditEvent(
        id=event_id,
        timestamp=MOMENT,
        tenant_id="acme",
        action="user.suspend",
        status=EventStatus.DENIED,
        entity_type="user",
        entity_id="42",
        entity_label="Anna",
        actor_type=ActorType.ADMIN,
        user_id="7",
        user_label="Bob",
        impersonator_id="1",
        description="no right",
        changes='{"active":{"old":true,"new":false}}',
        metadata='{"a":1}',
        context='{"host":"web-1"}',
        correlation_id="c-1",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        severity=3,
    )
    assert event == json.loads(to_wire(expected))


def test_id_holds_the_millisecond_of_the_timestamp(snapshots: Snapshots) -> None:
    event = taken(snapshots)

    moment = datetime.fromisoformat(event["timestamp"])
    assert identity.uuid7_ms(event["id"]) == int(moment.timestamp() * 1000)
    assert abs(moment - datetime.now(UTC)) < timedelta(seconds=5)


def test_timestamp_of_another_zone_is_written_in_utc(snapshots: Snapshots) -> None:
    local = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert taken(snapshots, timestamp=local)["timestamp"] == "2026-11-22T19:07:39.123456Z"
    assert (
        taken(snapshots, timestamp=local.isoformat())["timestamp"] == "2026-11-22T19:07:39.123456Z"
    )


def test_external_id_gives_the_same_id_again_and_stays_in_the_context(snapshots: Snapshots) -> None:
    first = taken(snapshots, external_id="ext-1", timestamp=MOMENT)
    again = taken(snapshots, external_id="ext-1", timestamp=MOMENT)
    other = taken(snapshots, external_id="ext-2", timestamp=MOMENT)

    assert first["id"] == again["id"] != other["id"]
    assert first["context"] == {"host": "web-1", "external_id": "ext-1"}


def test_id_without_timestamp_gives_the_time_in_the_id(snapshots: Snapshots) -> None:
    event_id = identity.mint(1795374459123456, 5)

    assert taken(snapshots, id=UUID(event_id))["timestamp"] == "2026-11-22T19:07:39.123000Z"


def test_changing_an_argument_afterwards_changes_nothing(snapshots: Snapshots) -> None:
    metadata: dict[str, Any] = {"list": [1]}

    payload = snapshots.snapshot("a", {"metadata": metadata}, None).payload
    metadata["list"].append(2)

    assert json.loads(payload)["metadata"] == {"list": [1]}


def test_values_that_applications_log_become_json(snapshots: Snapshots) -> None:
    known = uuid4()

    metadata = taken(
        snapshots,
        metadata={
            "moment": MOMENT,
            "day": MOMENT.date(),
            "id": known,
            "price": Decimal("1.10"),
            "status": EventStatus.DENIED,
            "tags": {"only"},
            "path": PurePosixPath("/tmp/x"),  # noqa: S108 - no file
            "ordered": OrderedDict(a=1),
            "proxy": MappingProxyType({"b": (1, 2)}),
            7: "number as key",
        },
    )["metadata"]

    assert metadata == {
        "moment": MOMENT.isoformat(),
        "day": "2026-11-22",
        "id": str(known),
        "price": "1.10",
        "status": "denied",
        "tags": ["only"],
        "path": "/tmp/x",  # noqa: S108 - no file
        "ordered": {"a": 1},
        "proxy": {"b": [1, 2]},
        "7": "number as key",
    }


def test_empty_optional_text_counts_as_not_given(snapshots: Snapshots) -> None:
    event = taken(snapshots, entity_label="", user_id=None, metadata=None)

    assert not {"entity_label", "user_id", "metadata"} & event.keys()


def test_durability_is_taken_per_call(snapshots: Snapshots) -> None:
    assert snapshots.snapshot("a", {}, None).durability is Durability.STANDARD
    chosen = snapshots.snapshot("a", {"durability": "best_effort"}, None)
    assert chosen.durability is Durability.BEST_EFFORT
    assert b"durability" not in chosen.payload


MANY_KEYS = {str(number): number for number in range(200)}
BAD_ARGUMENTS: list[tuple[str, dict[str, object]]] = [
    ("entity", {"entity": "user"}),
    ("entity", {"entity": ("user", "1", "2")}),
    ("entity_type", {"entity": ("x" * 51, "1")}),
    ("entity_id", {"entity": ("user", 1.5)}),
    ("user_id", {"user_id": object()}),
    ("user_id", {"user_id": "x" * 101}),
    ("user_label", {"user_label": 7}),
    ("user_label", {"user_label": b"bytes"}),
    ("description", {"description": "x" * 2_001}),
    ("status", {"status": "great"}),
    ("status", {"status": []}),
    ("actor_type", {"actor_type": "robot"}),
    ("severity", {"severity": 6}),
    ("severity", {"severity": True}),
    ("severity", {"severity": "high"}),
    ("durability", {"durability": "eternal"}),
    ("timestamp", {"timestamp": datetime(2026, 1, 1)}),  # noqa: DTZ001 - refusing it is the point
    ("timestamp", {"timestamp": "yesterday"}),
    ("timestamp", {"timestamp": 1.5}),
    ("timestamp", {"timestamp": datetime(1969, 12, 31, tzinfo=UTC)}),
    ("id", {"id": "no uuid"}),
    ("id", {"id": str(uuid4())}),
    ("id", {"id": identity.mint(0, 1), "timestamp": MOMENT}),
    ("external_id", {"external_id": 7}),
    ("tenant_id", {"tenant_id": ""}),
    ("source", {"source": ""}),
    ("changes", {"changes": [1]}),
    ("metadata", {"metadata": "text"}),
    ("metadata", {"metadata": {"f": float("nan")}}),
    ("metadata", {"metadata": {"f": float("inf")}}),
    ("metadata", {"metadata": {"o": object()}}),
    ("metadata", {"metadata": {"b": b"bytes"}}),
    ("metadata", {"metadata": {(1, 2): "tuple as key"}}),
    ("metadata", {"metadata": {"blob": "x" * 65_537}}),
    ("event", {"metadata": {"blob": "ü" * 40_000}}),
    (
        "event",
        {
            "metadata": dict.fromkeys(map(str, range(200)), 1),
            "changes": dict.fromkeys(map(str, range(57)), 1),
        },
    ),
    ("event", {"metadata": {"nul": "a\x00b"}}),
    ("event", {"metadata": {"nul\x00": 1}}),
    ("event", {"metadata": {"half": "\ud800"}}),
    ("event", {"description": "\ud800"}),
    ("unexpected", {"colour": "red"}),
]


@pytest.mark.parametrize(("field", "arguments"), BAD_ARGUMENTS)
def test_bad_argument_is_named_with_a_remedy(
    snapshots: Snapshots, field: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        snapshots.snapshot("user.suspend", arguments, None)

    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize("action", ["", None, 7, "x" * 101])
def test_bad_action_is_refused(snapshots: Snapshots, action: object) -> None:
    with pytest.raises(InvalidEvent) as caught:
        snapshots.snapshot(action, {}, None)

    assert caught.value.field == "action"


def test_backslash_u0000_as_text_is_no_nul(snapshots: Snapshots) -> None:
    assert taken(snapshots, metadata={"text": "\\u0000"})["metadata"] == {"text": "\\u0000"}


def test_secrets_are_gone_from_every_field(snapshots: Snapshots) -> None:
    secret = "ghp_" + "a1B2" * 9

    payload = snapshots.snapshot(
        f"used {secret}"[:100],
        {
            "entity": ("card", "4111 1111 1111 1111"),
            "entity_label": secret,
            "user_id": secret,
            "user_label": secret,
            "description": f"Authorization: Bearer {secret}",
            "changes": {"password": {"old": "hunter2", "new": "hunter3"}},
            "metadata": {"deep": [{"note": f"x {secret}"}], "pin": 1234},
            "context": {"session_id": "s-1", "cookie": "hunter2"},
            "external_id": secret,
            "correlation_id": secret,
        },
        None,
    ).payload

    for hidden in (secret, "4111", "hunter", "1234", '"s-1"'):
        assert hidden.encode() not in payload


def test_scope_gives_fields_and_context_and_the_call_wins(snapshots: Snapshots) -> None:
    outer = snapshots.scope(None, {"user_id": 7, "request_id": "r-1", "token": "hunter2"})
    inner = snapshots.scope(outer, {"tenant_id": "globex", "request_id": "r-2"})

    event = json.loads(
        snapshots.snapshot("a", {"user_id": "8", "context": {"ip": "::1"}}, inner).payload
    )

    assert (event["tenant_id"], event["user_id"]) == ("globex", "8")
    assert event["context"] == {
        "host": "web-1",
        "request_id": "r-2",
        "token": "[redacted]",
        "ip": "::1",
    }
