"""Mappings applied to single records: where values go, what stays, what comes back."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import InvalidEvent, InvalidMapping
from audit_platform.events.files import FileFormat, read_records
from audit_platform.events.identity import from_external, uuid7_ms
from audit_platform.events.mapping import map_record, rebuild
from audit_platform.events.mapping_rules import Mapping, load_mapping

CLOUDTRAIL_DIR = Path(__file__).parents[4] / "shared" / "data" / "cloudtrail"
CLOUDTRAIL = load_mapping("cloudtrail")
GENERIC = load_mapping("generic")

RECORD: dict[str, Any] = {
    "eventVersion": "1.08",
    "userIdentity": {
        "type": "AssumedRole",
        "arn": "arn:aws:sts::1:assumed-role/ops/ann",
        "accountId": "1",
        "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::1:role/ops", "userName": "ops"}},
    },
    "eventTime": "2023-07-10T11:42:36Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "sourceIPAddress": "192.0.2.1",
    "userAgent": "cli",
    "requestID": "r-1",
    "eventID": "293ba626-3be5-4a26-ab1b-0f4c54f49959",
    "recipientAccountId": "2",
    "resources": [{"type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"}],
    "responseElements": None,
}


def _wire(record: dict[str, Any] | bytes, mapping: Mapping = CLOUDTRAIL) -> dict[str, Any]:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    return json.loads(map_record(raw, mapping, fallback_id="file:1").wire, parse_float=str)


def _row(wire: bytes) -> dict[str, Any]:
    """The stored row of a wire event: JSON columns as their text, as `json` keeps it."""
    raw = msgspec.json.decode(wire, type=dict[str, msgspec.Raw])
    texts = ("metadata", "context", "changes")
    row = {name: bytes(value).decode() for name, value in raw.items() if name in texts}
    row |= {n: msgspec.json.decode(value) for n, value in raw.items() if n not in texts}
    return {"metadata": "{}", "context": "{}"} | row


def _exact(text: bytes) -> Any:
    """Parse with numbers as their text, so that `1.10` and `1.1` differ."""
    return json.loads(text, parse_int=lambda t: ("n", t), parse_float=lambda t: ("n", t))


def test_cloudtrail_fields_go_to_their_columns() -> None:
    wire = _wire(RECORD)

    assert wire["timestamp"] == "2023-07-10T11:42:36.000000Z"
    assert (wire["source"], wire["action"]) == ("s3.amazonaws.com", "GetObject")
    assert (wire["tenant_id"], wire["status"], wire["actor_type"]) == ("2", "success", "service")
    assert (wire["entity_type"], wire["entity_id"]) == ("AWS::S3::Bucket", "arn:aws:s3:::b")
    assert wire["user_id"] == "arn:aws:sts::1:assumed-role/ops/ann"
    assert wire["user_label"] == "ops"
    assert wire["impersonator_id"] == "arn:aws:iam::1:role/ops"
    assert wire["context"] == {
        "external_id": RECORD["eventID"],
        "ip": "192.0.2.1",
        "user_agent": "cli",
        "request_id": "r-1",
    }
    assert wire["metadata"]["responseElements"] is None
    assert not {"eventTime", "eventSource", "eventName", "eventID"} & wire["metadata"].keys()


def test_id_comes_from_the_external_id_and_the_time() -> None:
    wire = _wire(RECORD)

    assert wire["id"] == from_external(
        1_688_989_356_000,
        tenant_id="2",
        source="s3.amazonaws.com",
        external_id=RECORD["eventID"],
    )
    assert uuid7_ms(wire["id"]) == 1_688_989_356_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", "denied"),
        ("AccessDeniedException", "denied"),
        ("Client.UnauthorizedOperation", "denied"),
        ("ThrottlingException", "failure"),
        (None, "success"),
    ],
)
def test_error_code_decides_the_status(code: str | None, status: str) -> None:
    assert _wire(RECORD | {"errorCode": code})["status"] == status


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"eventTime": "2023-07-10T11:42:36.5Z"},
        {"eventTime": "2023-07-10T13:42:36+02:00"},
        {"eventTime": "2023-07-10T11:42:36.123456789Z"},
        {"errorCode": None},
        {"recipientAccountId": "default"},
        {"userAgent": ""},
        {"userAgent": {"not": ["a", "text"]}},
        {"requestID": 12345678901234567890123},
        {"sourceIPAddress": "\u202e\x1b[31m"},
        {"resources": []},
        {"userIdentity": {"type": "IAMUser", "arn": "x" * 300}},
        {"metadata": {"a": 1}, "context": {"b": 2}, "id": "own"},
        {"action": "also here", "timestamp": "2023"},
    ],
)
def test_record_is_rebuilt_whatever_its_values(change: dict[str, Any]) -> None:
    raw = json.dumps(RECORD | change).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert _exact(rebuild(_row(mapped.wire), CLOUDTRAIL)) == _exact(raw)


@pytest.mark.parametrize("missing", sorted(set(RECORD) - {"eventTime", "eventSource", "eventName"}))
def test_record_is_rebuilt_whatever_is_missing(missing: str) -> None:
    raw = json.dumps({key: value for key, value in RECORD.items() if key != missing}).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert _exact(rebuild(_row(mapped.wire), CLOUDTRAIL)) == _exact(raw)


@pytest.mark.skipif(
    not CLOUDTRAIL_DIR.is_dir(), reason="the folder shared/data/cloudtrail is absent"
)
def test_every_cloudtrail_record_is_rebuilt_from_its_wire_form() -> None:
    count = 0
    for path in sorted(CLOUDTRAIL_DIR.glob("*.json")):
        for record in read_records(path, FileFormat.CLOUDTRAIL):
            mapped = map_record(record.raw, CLOUDTRAIL, fallback_id="f:1")
            assert _exact(rebuild(_row(mapped.wire), CLOUDTRAIL)) == _exact(record.raw)
            count += 1

    assert count == 2_900


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | text
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
optional = sorted(set(RECORD) - {"eventTime", "eventSource", "eventName"})
cloudtrail_values = st.dictionaries(
    st.sampled_from([*optional, "errorCode", "errorMessage", "additionalEventData", "apiVersion"])
    | text.filter(lambda key: key not in RECORD),
    json_values,
    max_size=8,
)


@given(cloudtrail_values)
def test_any_record_is_rebuilt(change: dict[str, Any]) -> None:
    raw = json.dumps(RECORD | change).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert _exact(rebuild(_row(mapped.wire), CLOUDTRAIL)) == _exact(raw)


@given(st.dictionaries(text, json_values, max_size=6))
def test_metadata_keeps_every_value_and_the_text_of_its_numbers(metadata: dict[str, Any]) -> None:
    raw = json.dumps(metadata, ensure_ascii=False)
    line = f'{{"action":"a","time":"2025-01-01T00:00:00Z","metadata":{raw},"n":1.10}}'
    if "n" in metadata:
        return

    wire = map_record(line.encode(), GENERIC, fallback_id="f:1").wire

    stored = msgspec.json.decode(wire, type=dict[str, msgspec.Raw])["metadata"]
    assert _exact(bytes(stored)) == _exact(raw.encode()) | {"n": ("n", "1.10")}


@pytest.mark.parametrize("number", [b"1.10", b"1e400", b"12345678901234567890123", b"-0", b"1E+2"])
def test_numbers_keep_their_bytes(number: bytes) -> None:
    line = b'{"action":"a","time":"2025-01-01T00:00:00Z","x":{"n": [' + number + b"]}}"

    wire = map_record(line, GENERIC, fallback_id="f:1").wire

    assert b'"metadata":{"x":{"n":[' + number + b"]}}" in wire


def test_aliases_reach_their_columns_and_unknown_columns_the_metadata() -> None:
    wire = _wire(
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

    assert _wire(base | {"id": own.upper()}, GENERIC)["id"] == own
    assert _wire(base | {"id": 17}, GENERIC)["context"] == {"external_id": 17}
    other_time = _wire(base | {"id": own, "time": "2025-01-02T00:00:00Z"}, GENERIC)
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
    assert _exact(rebuild(_row(mapped.wire), mapping)) == _exact(raw)
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
    assert _exact(rebuild(_row(mapped.wire), mapping)) == _exact(raw)


def test_mapping_that_merges_objects_refuses_to_rebuild() -> None:
    with pytest.raises(InvalidMapping, match="generic"):
        rebuild({"metadata": "{}", "context": "{}"}, GENERIC)
