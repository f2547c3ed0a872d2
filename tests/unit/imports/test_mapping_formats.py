"""Records that are no CloudTrail: our own names, bad ones, formats that are only a file."""

import json

import pytest

from audit_platform.errors import InvalidEvent, InvalidMapping
from audit_platform.events.identity import from_external
from audit_platform.imports.mapping import map_record
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.rebuild import rebuild
from tests.unit.events.mapped import exact, stored_row, wire_of

GENERIC = load_mapping("generic")


@pytest.mark.parametrize("number", [b"1.10", b"1e400", b"12345678901234567890123", b"-0", b"1E+2"])
def test_numbers_keep_their_bytes(number: bytes) -> None:
    line = b'{"action":"a","time":"2025-01-01T00:00:00Z","x":{"n": [' + number + b"]}}"

    wire = map_record(line, GENERIC, fallback_id="f:1").wire

    assert b'"metadata":{"x":{"n":[' + number + b"]}}" in wire


def test_aliases_reach_their_columns_and_unknown_columns_the_metadata() -> None:
    wire = wire_of(
        {
            "createdAt": "2025-01-01T01:00:00+01:00",
            "actionType": "user.suspend",
            "accountId": "acme",
            "adminId": 7,
            "resource_type": "user",
            "resource_id": "42",
            "details": {"plan": "pro"},
            "colour": "red",
            "severity": "3",
            "changes": '{"active": {"old": true}}',
            "ip_address": "192.0.2.9",
        },
        GENERIC,
    )

    assert wire.pop("id")
    assert wire == {
        "timestamp": "2025-01-01T00:00:00.000000Z",
        "action": "user.suspend",
        "tenant_id": "acme",
        "source": "import",
        "status": "success",
        "user_id": "7",
        "actor_type": "admin",
        "entity_type": "user",
        "entity_id": "42",
        "metadata": {"plan": "pro", "colour": "red"},
        "severity": 3,
        "changes": {"active": {"old": True}},
        "context": {"ip": "192.0.2.9"},
    }


def test_own_uuid7_of_the_same_time_is_kept_and_any_other_id_is_external() -> None:
    own = from_external(1_735_689_600_000, tenant_id="t", source="s", external_id="x")
    base = {"action": "a", "time": "2025-01-01T00:00:00Z"}

    assert wire_of(base | {"id": own.upper()}, GENERIC)["id"] == own
    assert wire_of(base | {"id": 17}, GENERIC)["context"] == {"external_id": 17}
    other_time = wire_of(base | {"id": own, "time": "2025-01-02T00:00:00Z"}, GENERIC)
    assert other_time["context"] == {"external_id": own}


def test_same_record_gives_the_same_bytes_and_another_place_another_id() -> None:
    raw = b'{"action":"a","time":"2025-01-01T00:00:00Z"}'

    first = map_record(raw, GENERIC, fallback_id="f:1")

    assert first == map_record(raw, GENERIC, fallback_id="f:1")
    assert first.event_id != map_record(raw, GENERIC, fallback_id="f:2").event_id


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"action":"a"}', "timestamp"),
        (b'{"time":"2025-01-01T00:00:00Z"}', "action"),
        (b'{"action":"","time":"2025-01-01T00:00:00Z"}', "action"),
        (b'{"action":"a","time":"2025-01-01T00:00:00"}', "time"),
        (b'{"action":"a","time":"yesterday"}', "time"),
        (b'{"action":"a","time":"1969-12-31T23:59:59Z"}', "time"),
        (b'{"action":"a","time":"9999-12-31T23:59:59-01:00"}', "time"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","status":"fine"}', "status"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","severity":"high"}', "severity"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","changes":[1]}', "changes"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":1,"metadata":{"x":2}}', "x"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":{"k":1,"k":2}}', "k"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":NaN}', "record"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":["a\\u0000"]}', "x[0]"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":{"y":"\\ud800"}}', "x.y"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":"\xff"}', "record"),
        (b"[" * 100_000, "record"),
        (b"[]", "record"),
        (b"{", "record"),
        (b'{"action":"a","time":"2025-01-01T00:00:00Z","x":"' + b"y" * 65_536 + b'"}', "record"),
        (b'{"action":"' + b"y" * 101 + b'","time":"2025-01-01T00:00:00Z"}', "action"),
    ],
)
def test_bad_record_is_refused_with_its_field(line: bytes, field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        map_record(line, GENERIC, fallback_id="f:1")

    assert caught.value.field == field
    assert caught.value.remedy


def test_kubernetes_event_needs_no_code() -> None:
    record = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": "b7f2",
        "stage": "ResponseComplete",
        "verb": "delete",
        "user": {"username": "system:serviceaccount:ci:deployer"},
        "impersonatedUser": {"username": "ann"},
        "sourceIPs": ["192.0.2.5", "10.0.0.1"],
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-1"},
        "responseStatus": {"code": 403, "reason": "Forbidden"},
        "stageTimestamp": "2025-01-01T00:00:00.000123Z",
        "annotations": {"authorization.k8s.io/decision": "forbid"},
    }
    mapping = load_mapping("kubernetes")
    raw = json.dumps(record).encode()

    mapped = map_record(raw, mapping, fallback_id="f:1")

    wire = json.loads(mapped.wire)
    assert (wire["tenant_id"], wire["status"], wire["actor_type"]) == ("shop", "denied", "service")
    assert (wire["entity_type"], wire["entity_id"]) == ("pods", "web-1")
    assert (wire["user_id"], wire["impersonator_id"]) == ("ann", record["user"]["username"])
    assert exact(rebuild(stored_row(mapped.wire), mapping)) == exact(raw)
    other_stage = json.dumps(record | {"stage": "RequestReceived"}).encode()
    assert map_record(other_stage, mapping, fallback_id="f:1").event_id != mapped.event_id


def test_github_entry_needs_no_code() -> None:
    record = {
        "@timestamp": 1735689600123,
        "_document_id": "d-1",
        "action": "repo.create",
        "actor": "ann",
        "actor_id": 7,
        "actor_ip": "192.0.2.6",
        "org": "acme",
        "repo": "acme/web",
        "size": 1.50,
    }
    mapping = load_mapping("github")
    raw = json.dumps(record).encode()

    mapped = map_record(raw, mapping, fallback_id="f:1")

    wire = json.loads(mapped.wire)
    assert wire["timestamp"] == "2025-01-01T00:00:00.123000Z"
    assert (wire["tenant_id"], wire["user_id"], wire["user_label"]) == ("acme", "7", "ann")
    assert (wire["entity_type"], wire["entity_id"]) == ("repository", "acme/web")
    assert exact(rebuild(stored_row(mapped.wire), mapping)) == exact(raw)


def test_mapping_that_merges_objects_refuses_to_rebuild() -> None:
    with pytest.raises(InvalidMapping, match="generic"):
        rebuild({"metadata": "{}", "context": "{}"}, GENERIC)
